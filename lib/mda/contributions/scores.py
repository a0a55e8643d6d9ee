"""What speaks for a channel: the paper's contributions, and scores of other kinds as controls."""

from collections.abc import Callable, Iterable, Mapping

import torch
import torch.nn.functional as F
from torch import nn

from ...channels.channels import Coupling, Layer
from ...images.data import Batch
from ...params.contributions import Contributions
from .contribution import contributions
from .masks import Evidence, relative


def gather(
    model: nn.Module, coupling: Coupling, images: Mapping[int, Iterable[Batch]], params: Contributions, seed: int
) -> Evidence:
    """What speaks for the channels of `model`, in eval mode, as `params` asks.

    images: output -> batches of its class's selected images; seed: of the random scores.
    """
    if params.score == "magnitude":
        return Evidence(coupling, scores=dict.fromkeys(images, magnitude(model, coupling)))
    if params.score == "random":
        return Evidence(coupling, scores=dict.fromkeys(images, random(coupling, seed)))
    if params.score == "taylor":
        return Evidence(coupling, scores={c: taylor(model, coupling, batches) for c, batches in images.items()})
    layers = [layer for layer in coupling.layers if _votes(coupling, layer)]
    soft = {}
    for output, batches in images.items():  # one class's sums are held in double precision at a time
        found = contributions(model, layers, batches, params.batchnorm == "folded", coupling.memory_format)
        soft[output] = {name: relative(value).float() for name, value in found.items()}
    return Evidence(coupling, soft, binary=params.hard == "binary")


def taylor(model: nn.Module, coupling: Coupling, batches: Iterable[Batch]) -> torch.Tensor:
    """First-order effect on the loss of taking each channel out (Molchanov et al. 2019), float64 [channels].

    |sum over its readers and space of activation times gradient of the cross-entropy|, summed over the images.
    """
    device = next(model.parameters()).device
    total = torch.zeros(coupling.count, dtype=torch.float64)
    inputs: dict[str, list[torch.Tensor]] = {}

    def observer(layer: Layer) -> Callable[[nn.Module, tuple[torch.Tensor, ...]], tuple[torch.Tensor]]:
        def observe(_: nn.Module, given: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor]:
            own = given[0].view_as(given[0])  # of this reader alone
            own = own if own.requires_grad else own.requires_grad_()
            own.retain_grad()
            inputs.setdefault(layer.name, []).append(own)
            return (own,)

        return observe

    readers = [layer for layer in coupling.layers if _votes(coupling, layer)]
    handles = [model.get_submodule(layer.name).register_forward_pre_hook(observer(layer)) for layer in readers]
    try:
        for x, y in batches:
            with torch.enable_grad():
                F.cross_entropy(model(x.to(device, copy=True)), y.to(device), reduction="sum").backward()
            effect = torch.zeros(len(x), coupling.count, dtype=torch.float64)
            for layer in readers:
                for value in inputs.pop(layer.name):  # several where it is used again
                    assert value.grad is not None
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


def magnitude(model: nn.Module, coupling: Coupling) -> torch.Tensor:
    """Euclidean norm of all filters that make a channel, float64 [channels], for every class the same."""
    squares = torch.zeros(coupling.count, dtype=torch.float64)
    for layer in coupling.layers:
        weight = model.get_submodule(layer.name).get_parameter("weight").detach().double().cpu()
        squares.index_add_(0, torch.tensor(layer.outputs), weight.flatten(1).square().sum(1))
    return squares.sqrt()


def random(coupling: Coupling, seed: int) -> torch.Tensor:
    """Uniform in [0, 1), float64 [channels], for every class the same."""
    return torch.rand(coupling.count, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def _votes(coupling: Coupling, layer: Layer) -> bool:
    """Whether a layer's inputs can be taken out and are not its own outputs."""
    return layer.groups == 1 and not set(layer.inputs) <= coupling.fixed
