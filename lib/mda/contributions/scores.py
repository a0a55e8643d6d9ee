"""What speaks for a channel: the paper's contributions, and scores of other kinds as controls."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from ...base.errors import BrickyardError
from ...channels.channels import Coupling, Layer
from ...images.data import Batch
from ...params.contributions import Contributions
from .contribution import check_called, contributions, given
from .masks import Evidence, relative

_NO_GRADIENTS = ("inplace operation", "in-place operation", "does not require grad", "nference tensor")


def gather(
    model: nn.Module,
    coupling: Coupling,
    images: Mapping[int, Iterable[Batch]],
    params: Contributions,
    seed: int,
    name: str = "",
) -> Evidence:
    """What speaks for the channels of `model`, in eval mode, as `params` asks.

    images: output -> batches of its class's selected images; seed: of the random scores; name: of the model, for
    errors. Raises BrickyardError where what a layer reads, or a gradient that the score needs, cannot be seen.
    """
    if params.score == "magnitude":
        return Evidence(coupling, scores=dict.fromkeys(images, magnitude(model, coupling)))
    if params.score == "random":
        return Evidence(coupling, scores=dict.fromkeys(images, random(coupling, seed)))
    if params.score == "taylor":
        return Evidence(coupling, scores={c: taylor(model, coupling, batches, name) for c, batches in images.items()})
    layers = [layer for layer in coupling.layers if _votes(coupling, layer)]
    soft = {}
    for output, batches in images.items():  # one class's sums are held in double precision at a time
        found = contributions(model, layers, batches, params.batchnorm == "folded", coupling.memory_format, name)
        soft[output] = {layer: relative(value).float() for layer, value in found.items()}
    return Evidence(coupling, soft, binary=params.hard == "binary")


def taylor(model: nn.Module, coupling: Coupling, batches: Iterable[Batch], name: str = "") -> torch.Tensor:
    """First-order effect on the loss of taking each channel out (Molchanov et al. 2019), float64 [channels].

    |sum over its readers and space of activation times gradient of the cross-entropy|, summed over the images.
    Raises BrickyardError naming the network where it has no gradients.
    """
    name = name or type(model).__name__
    device = next(model.parameters()).device
    total = torch.zeros(coupling.count, dtype=torch.float64)
    inputs: dict[str, list[torch.Tensor]] = {}

    def observer(layer: Layer) -> Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], Any]:
        def observe(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            read = given(args, kwargs)
            own = read.view_as(read)  # of this reader alone
            own = own if own.requires_grad else own.requires_grad_()
            own.retain_grad()
            inputs.setdefault(layer.name, []).append(own)
            return (own,), {}

        return observe

    readers = [layer for layer in coupling.layers if _votes(coupling, layer)]
    handles = [
        model.get_submodule(layer.name).register_forward_pre_hook(observer(layer), with_kwargs=True)
        for layer in readers
    ]
    try:
        for x, y in batches:
            with torch.enable_grad(), _explained(name):
                F.cross_entropy(model(x.to(device, copy=True)), y.to(device), reduction="sum").backward()
            check_called(model, readers, inputs, name)
            effect = torch.zeros(len(x), coupling.count, dtype=torch.float64)
            for layer in readers:
                for value in inputs.pop(layer.name):  # several where it is used again
                    if value.grad is None:
                        raise BrickyardError(_no_gradients(name, f"layer {layer.name} gets none (no_grad, detach)"))
                    product = (value * value.grad).detach().double().cpu()
                    if layer.kind == "linear":  # tokens and windows of an image are summed up first
                        product = product.reshape(len(x), -1, product.shape[-1]).sum(1)
                    else:
                        product = product.reshape(len(x), -1, *product.shape[1:]).sum(1)
                    by_channel = product.flatten(1).unflatten(1, (len(layer.inputs), -1)).sum(2)
                    effect.index_add_(1, torch.tensor(layer.inputs), by_channel)
            total += effect.abs().sum(0)
    finally:
        for handle in handles:
            handle.remove()
        model.zero_grad(set_to_none=True)
    return total


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """Errors of autograd that a network's own code leads to, as BrickyardError naming the network."""
    try:
        yield
    except RuntimeError as error:
        reason = " ".join(str(error).split(": [")[0].split())[:200]
        if not any(word in reason for word in _NO_GRADIENTS):
            raise
        raise BrickyardError(_no_gradients(name, reason)) from error


def _no_gradients(name: str, reason: str) -> str:
    return (
        f"{name} has no gradients, which contributions.score: taylor needs ({reason}); write contributions.score: "
        "contribution"
    )


def magnitude(model: nn.Module, coupling: Coupling) -> torch.Tensor:
    """Euclidean norm of all filters that make a channel, float64 [channels], for every class the same."""
    squares = torch.zeros(coupling.count, dtype=torch.float64)
    for layer in coupling.layers:
        weight: Any = model.get_submodule(layer.name).weight  # no parameter where it is made anew in each pass
        weight = weight.detach().double().cpu()
        squares.index_add_(0, torch.tensor(layer.outputs), weight.flatten(1).square().sum(1))
    return squares.sqrt()


def random(coupling: Coupling, seed: int) -> torch.Tensor:
    """Uniform in [0, 1), float64 [channels], for every class the same."""
    return torch.rand(coupling.count, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def _votes(coupling: Coupling, layer: Layer) -> bool:
    """Whether a layer's inputs can be taken out and are not its own outputs."""
    return layer.groups == 1 and not set(layer.inputs) <= coupling.fixed
