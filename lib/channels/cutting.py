"""Cutting: a network with fewer channels, as its coupling says (MDA, component locating, section 3.1)."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from math import prod
from typing import Any

import torch
from torch import nn

from ..base.errors import BrickyardError
from ..trace import graph
from ..trace.cost import Cost
from ..trace.duplicate import duplicate
from ..trace.logits import logits
from ..trace.plain import plain
from .channels import Coupling, Layer
from .coupling import couple
from .operations import is_response_norm
from .writing import Place, answers, changed, is_alike, renumber, restore, rewritten, wanted

Kept = Mapping[str, Sequence[int]]
_WHO = "the network"
PRECISION = 1e-3  # of logits, relative to the largest, between a component and its source, in float32
_EXACT = 1e-5  # the same in float64


def cut(model: nn.Module, kept: Kept, shape: tuple[int, ...]) -> nn.Module:
    """A copy of `model`, in eval mode, with only the `kept` output channels of each layer; images are of `shape`.

    What is coupled to a channel goes with it. Layers that are not in `kept` keep what no other layer takes from them.
    Where an operation has a number of channels written into it (a padding of channels, a fixed shape) that is no
    attribute which counts heads, or the network has auxiliary outputs in train mode, the result is the traced graph of
    each mode with other numbers and the same modules under the same names, else a module of the same class. So it is
    where the network's own code asks for its numbers of channels and then does something else, which its operations
    tell, traced once more: which of both it is does not depend on weights. It is compared with `model`, whose layers do
    not look at what was taken out, on random images. Raises BrickyardError where a layer is not there, would be empty,
    or contradicts one that it is coupled to, and where they differ.
    """
    source, model = plain(model), plain(model)
    modes = [graph.trace(model, _WHO, shape, train=train, costs=False) for train in (False, True)]
    coupling = couple(modes[0], _WHO)
    chosen = channels(coupling, kept)
    kinds = [(coupling, chosen), _in_training(modes[1], coupling, chosen)]
    taken: dict[tuple[int, str], torch.Tensor] = {}
    for path, rows in coupling.axes.items():
        _take(model, path, [None if row is None else _positions(row, chosen) for row in rows], taken)
    for layer in coupling.layers:
        _resize(model.get_submodule(layer.name), layer, chosen)
    for path in {path.rpartition(".")[0] for path in coupling.axes}:
        _recount(model.get_submodule(path), source.get_submodule(path))
    written = [changed(*kind) | answers(found, model, *kind) for found, kind in zip(modes, kinds, strict=True)]
    trim = any(is_unused(n, coupling) for n, _ in model.named_parameters())
    blind, rows = _blinded(source, coupling, chosen), _positions(coupling.classifier.outputs, chosen)
    made = model
    if trim or not all(found.bare for found in modes) or not _does_the_same(model, modes, kinds, written, shape):
        made = rewritten(model, modes, written)
    fault = _difference(made, blind, rows, shape)
    if fault is not None:
        raise BrickyardError(f"{_WHO}: its channels cannot be told apart: cut, it {fault}")
    return made


def _does_the_same(
    model: nn.Module,
    modes: Sequence[graph.Trace],
    kinds: Sequence[tuple[Coupling, frozenset[int]]],
    written: Sequence[Mapping[Place, int]],
    shape: tuple[int, ...],
) -> bool:
    """Whether the code of `model`, which has been cut, does what its graphs would, with other numbers `written` into
    them; attributes that count heads are changed to that end. If not, they are as they were.

    In train mode, too, where it did something else there before and its channels are known.
    """
    before = renumber(model, modes[0], written[0])
    if any(written) and not before:
        return False
    evaluating, training = modes
    count = 1 if is_alike(evaluating, training, {}) or not kinds[1][1] else 2
    for train, found, kind in list(zip((False, True), modes, kinds, strict=True))[:count]:
        try:
            again = graph.trace(model, _WHO, shape, train=train, costs=False)
        except BrickyardError:  # whatever a network does with numbers of channels that it was not written for
            same = False
        else:
            same = found.chance or is_alike(found, again, wanted(*kind))
        if not same:
            restore(model, before)
            return False
    return True


def _in_training(found: graph.Trace, coupling: Coupling, chosen: Collection[int]) -> tuple[Coupling, frozenset[int]]:
    """The coupling in train mode and the channels that stay there; raises BrickyardError where other channels are
    coupled than in eval mode.
    """
    who = f"{_WHO} in train mode"
    try:
        training = couple(found, who)
    except BrickyardError:
        if coupling.sizes or coupling.asked:
            raise
        return replace(coupling, asked=()), frozenset()
    there = {layer.name for layer in training.layers}
    same = {name: rows for name, rows in indices(coupling, chosen).items() if name in there}
    try:
        return training, channels(training, same)
    except BrickyardError as error:
        raise BrickyardError(f"{who}: {error}") from None


def _blinded(model: nn.Module, coupling: Coupling, chosen: Collection[int]) -> nn.Module:
    """A copy of `model`, in eval mode, none of whose layers looks at channels that are not `chosen`."""
    blind = duplicate(model)
    for layer in coupling.layers:
        row = coupling.axes[f"{layer.name}.weight"][1]
        if row is not None:
            module = blind.get_submodule(layer.name)
            weight = module.get_parameter("weight").detach().clone()
            weight[:, [i for i, channel in enumerate(row) if channel not in chosen]] = 0
            module._parameters["weight"] = nn.Parameter(weight)
    for path, module in blind.named_modules():
        if is_response_norm(module) and (axes := coupling.axes.get(f"{path}.weight")) and axes[0]:
            seen = torch.tensor([channel in chosen for channel in axes[0]]).to(module.get_parameter("weight").device)
            module.register_forward_pre_hook(partial(_see, seen, module.channel_dim))
    return blind


def _see(seen: torch.Tensor, dim: Any, _: nn.Module, given: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor]:
    """Zeros instead of channels that are not `seen`."""
    (x,) = given
    return (x * seen.view([-1 if one == dim % x.ndim else 1 for one in range(x.ndim)]),)


@torch.no_grad()
def _difference(component: nn.Module, source: nn.Module, rows: Sequence[int], shape: tuple[int, ...]) -> str | None:
    """What is the matter with a component whose logits are not those of `rows` of its source: compared in float64,
    where the order of a sum does not matter, unless the network itself names a precision.
    """
    generator = torch.Generator().manual_seed(0)
    images = torch.cat([torch.rand(2, *shape, generator=generator), torch.randn(2, *shape, generator=generator)])
    images = images.to(next(component.parameters()).device)
    try:
        expected, precision = logits(duplicate(source).double()(images.double())), _EXACT
        component, images = duplicate(component).double(), images.double()
    except RuntimeError:
        expected, precision = logits(source(images.clone())), PRECISION
    expected = expected[:, list(rows)].nan_to_num()
    try:
        found = logits(component(images.clone())).nan_to_num()
    except Exception as error:  # whatever a network does with numbers of channels that it was not written for
        return f"fails ({' '.join(str(error).split())[:200]})"
    same = found.shape == expected.shape and torch.allclose(
        found, expected, rtol=0, atol=precision * float(expected.abs().max()) + 1e-6
    )
    return None if same else "differs from its source without them"


def is_unused(parameter: str, coupling: Coupling) -> bool:
    """Whether the logits do not depend on a parameter."""
    return parameter in coupling.unused or parameter.rpartition(".")[0] in coupling.unused


def channels(coupling: Coupling, kept: Kept) -> frozenset[int]:
    """The channels of the coupling that stay when each layer keeps the output channels `kept`, ascending indices."""
    layers = {layer.name: layer for layer in coupling.layers}
    chosen = set(range(coupling.count))
    for name, indices in kept.items():
        if name not in layers:
            raise BrickyardError(f"the network has no convolution or linear layer {name!r}; dvc repro contributions")
        outputs = layers[name].outputs
        if not indices or max(indices) >= len(outputs):
            raise BrickyardError(f"layer {name}: {len(indices)} of its {len(outputs)} channels cannot be kept")
        chosen -= set(outputs) - {outputs[i] for i in indices}
    chosen |= coupling.fixed
    for layer in coupling.layers:
        found = _positions(layer.outputs, chosen)
        if not found:
            raise BrickyardError(f"layer {layer.name}: none of its channels would be kept; keep at least one")
        if not _positions(layer.inputs, chosen):
            raise BrickyardError(f"layer {layer.name}: none of the channels that it reads would be kept; keep one")
        if layer.name in kept and found != sorted(kept[layer.name]):
            raise BrickyardError(
                f"layer {layer.name}: its channels are coupled to those of other layers, which keep others of them"
            )
    return frozenset(chosen)


def indices(coupling: Coupling, chosen: Collection[int]) -> dict[str, tuple[int, ...]]:
    """The inverse of `channels`: layer name -> the output channels that it keeps, ascending."""
    return {layer.name: tuple(_positions(layer.outputs, chosen)) for layer in coupling.layers}


def shapes(model: nn.Module, coupling: Coupling) -> dict[str, tuple[int, ...]]:
    """The parameters that a network has once it is cut, by path, with their shapes before that: a weight that layers
    share is one, and what the logits do not depend on is left out.
    """
    weights = plain(model).named_parameters()
    return {name: tuple(tensor.shape) for name, tensor in weights if not is_unused(name, coupling)}


class Scales:
    """What a network would cost, were it cut: from its coupling, without cutting it."""

    def __init__(self, model: nn.Module, coupling: Coupling):
        self._coupling, self._shapes = coupling, shapes(model, coupling)

    def cost(self, chosen: Collection[int]) -> Cost:
        """Parameters and MACs of the layers with the `chosen` channels alone; memory is not known."""
        params = 0
        for path, shape in self._shapes.items():
            axes = self._coupling.axes.get(path, (None,) * len(shape))
            params += prod(
                length if row is None else len(_positions(row, chosen)) for length, row in zip(shape, axes, strict=True)
            )
        macs = 0
        for layer in self._coupling.layers:
            outputs = len(_positions(layer.outputs, chosen))
            inputs = len(layer.inputs) if layer.groups > 1 else len(_positions(layer.inputs, chosen))
            macs += layer.macs * outputs * inputs // (len(layer.outputs) * len(layer.inputs))
        for work in self._coupling.works:
            macs += (
                work.macs * len(_positions(work.channels, chosen)) // len(work.channels) if work.channels else work.macs
            )
        return Cost(params, macs)


def _positions(row: Sequence[int], chosen: Collection[int]) -> list[int]:
    return [i for i, channel in enumerate(row) if channel in chosen]


def _take(
    model: nn.Module, path: str, positions: list[list[int] | None], taken: dict[tuple[int, str], torch.Tensor]
) -> None:
    """Keeps only some rows, along each axis, of the weight or buffer at `path`; taken: what has been made of a tensor,
    for weights that several layers share.
    """
    owner, _, name = path.rpartition(".")
    module = model.get_submodule(owner)
    given = getattr(module, name)
    key = (id(given), str(positions))
    if key not in taken:
        tensor = given.detach()
        for axis, rows in enumerate(positions):
            if rows is not None:
                tensor = tensor.index_select(axis, torch.tensor(rows, dtype=torch.long, device=tensor.device))
        taken[key] = nn.Parameter(tensor.clone()) if isinstance(given, nn.Parameter) else tensor.clone()
        taken[id(given), ""] = given  # so that its number is not given to another
    store: dict[str, Any] = module._parameters if name in module._parameters else module._buffers
    store[name] = taken[key]


def _resize(module: Any, layer: Layer, chosen: Collection[int]) -> None:
    outputs, features = len(_positions(layer.outputs, chosen)), len(_positions(layer.inputs, chosen))
    if isinstance(module, nn.Linear):
        module.out_features, module.in_features = outputs, features * layer.positions
        return
    if layer.groups > 1:  # whole groups go
        module.groups = layer.groups * outputs // len(layer.outputs)
    module.out_channels, module.in_channels = outputs, features


def _recount(module: Any, source: Any) -> None:
    """The numbers of channels that a norm knows of itself.

    A GRN divides by the mean over its channels, those that were taken out counted as zeros: x / (k/n mean + eps).
    """
    if is_response_norm(module):
        share = len(source.weight) / len(module.weight)
        module.weight.data.mul_(share)
        module.eps = source.eps * share
    if isinstance(module, nn.GroupNorm):
        count = len(module.weight)
        module.num_groups, module.num_channels = module.num_groups * count // module.num_channels, count
    elif isinstance(module, nn.PReLU):
        module.num_parameters = len(module.weight)
    elif isinstance(module, nn.modules.batchnorm._NormBase):
        vectors = (*module._parameters.values(), *module._buffers.values())
        module.num_features = next(len(t) for t in vectors if t is not None and t.ndim)
