"""Components of one architecture in one dense network, with zero kernels between them (MDA, alignment padding)."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from ..base.errors import BrickyardError
from ..channels.channels import Coupling
from ..channels.coupling import couple
from ..channels.cutting import PRECISION
from ..channels.writing import Place, numbers, rewritten
from ..trace import graph
from ..trace.duplicate import duplicate

_INSTEAD = "write lego.form: parallel"
_GROUPS = ("num_groups", "num_channels")


def assemble(parts: Mapping[str, nn.Module], shape: tuple[int, ...]) -> nn.Module:
    """One network whose logits [b, sum of outputs] are those of `parts` side by side, in their order.

    Where a layer makes channels, those of the parts stand one under another; where channels are read, a kernel is zero
    unless both sides belong to the same part; the image is shared. The parts are not changed. Raises BrickyardError
    where the parts differ by more than their numbers of channels, or an operation would mix their channels.
    """
    modes = [
        {name: graph.trace(part, name, shape, train=train, costs=False) for name, part in parts.items()}
        for train in (False, True)
    ]
    traced = modes[0]
    couplings = {name: couple(found, name) for name, found in traced.items()}
    _check(parts, traced, next(iter(couplings.values())).axes)
    assembled = duplicate(next(iter(parts.values()))).eval()
    modules = [dict(part.named_modules()) for part in parts.values()]
    for path, module in assembled.named_modules():
        _widen(module, path, [found[path] for found in modules], [*couplings.values()])
    first = [next(iter(of_parts.values())) for of_parts in modes]
    pads = {node.name for node in first[0].graph.nodes if node.target is F.pad}
    written = [_summed(couplings.values()), Counter[Place]()]
    if written[0]:
        written[1] = _summed(couple(found, f"{name} in train mode") for name, found in modes[1].items())
    if any(written) or not all(found.bare for found in first):
        assembled = rewritten(assembled, first, written)
    try:
        coupling = couple(graph.trace(assembled, "lego", shape, costs=False), "lego")
        owners = _owners(coupling, [*couplings.values()], pads)
    except BrickyardError as error:
        raise BrickyardError(f"lego.components: {', '.join(parts)} cannot be padded ({error}); {_INSTEAD}") from None
    for number, part in enumerate(parts.values()):
        own = {**dict(part.named_parameters()), **dict(part.named_buffers())}
        for path, axes in coupling.axes.items():
            tensor = _tensor(assembled, path)
            rows = [
                torch.arange(length)
                if row is None
                else torch.tensor([i for i, channel in enumerate(row) if owners[channel] in (number, None)])
                for row, length in zip(axes, tensor.shape, strict=True)
            ]
            tensor[torch.meshgrid(*rows, indexing="ij")] = own[path].detach()
    _check_equal(assembled, parts, shape)
    return assembled


@torch.no_grad()
def _check_equal(assembled: nn.Module, parts: Mapping[str, nn.Module], shape: tuple[int, ...]) -> None:
    """Raises BrickyardError unless the logits are those of the parts side by side, to float32's precision."""
    parameter = next(assembled.parameters())
    images = torch.rand(2, *shape, generator=torch.Generator().manual_seed(0)).to(parameter)
    expected = torch.cat([part(images.clone()) for part in parts.values()], 1).nan_to_num()
    try:
        found = assembled(images.clone()).nan_to_num()
        alike = torch.allclose(found, expected, rtol=0, atol=PRECISION * float(expected.abs().max()) + 1e-6)
    except RuntimeError:  # shapes that do not fit
        alike = False
    if not alike:
        raise BrickyardError(
            f"lego.components: {', '.join(parts)} cannot be padded: an operation mixes their channels; {_INSTEAD}"
        )


def _summed(couplings: Iterable[Coupling]) -> Counter[Place]:
    """The numbers of channels that are written into the graph of all parts together."""
    found = Counter[Place]()
    for coupling in couplings:
        found.update(numbers(coupling, range(coupling.count)))
    return found


def _check(parts: Mapping[str, nn.Module], traced: Mapping[str, graph.Trace], axes: Collection[str]) -> None:
    """Raises BrickyardError where parts differ by more than their numbers of channels, or share weights.

    axes: the weights whose rows along the channels are known.
    """
    name, first = next(iter(parts.items()))
    used = [str(node.target) for node in traced[name].graph.nodes if node.op == "call_module"]
    graphs = [[(node.name, str(node.target)) for node in found.graph.nodes] for found in traced.values()]
    for part in parts.values():
        modules = dict(part.named_modules())
        for path in used:
            if type(modules.get(path)) is not type(first.get_submodule(path)):
                raise BrickyardError(f"lego.components: not all of {', '.join(parts)} have a module {path}; {_INSTEAD}")
    if any(one != graphs[0] for one in graphs):
        raise BrickyardError(f"lego.components: {', '.join(parts)} do not compute alike; {_INSTEAD}")
    for other, part in parts.items():
        _check_own(other, part)
        for path, _ in part.named_parameters():
            if path not in axes:
                owner = path.rpartition(".")[0]
                kind = type(part.get_submodule(owner)).__name__
                raise BrickyardError(
                    f"{other}: {owner} ({kind}) has weights that cannot be put side by side; {_INSTEAD}"
                )


def _check_own(name: str, part: nn.Module) -> None:
    """Raises BrickyardError where two modules of a part have one weight."""
    paths = dict[nn.Parameter, str]()
    for path, module in part.named_modules():
        for key, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
            own = f"{path}.{key}" if path else key
            if (first := paths.setdefault(parameter, own)) != own:
                raise BrickyardError(
                    f"{name}: {first} and {own} are one weight, which cannot be put side by side; {_INSTEAD}"
                )


def _widen(module: Any, path: str, parts: Sequence[Any], couplings: Sequence[Coupling]) -> None:
    """Zeros of the assembled shape instead of a module's weights and buffers, and its numbers of channels with them."""
    for store in (module._parameters, module._buffers):
        for key, tensor in store.items():
            axes = couplings[0].axes.get(f"{path}.{key}" if path else key)
            if tensor is None or axes is None:
                continue
            shapes = [getattr(part, key).shape for part in parts]
            lengths = [
                shapes[0][axis] if row is None or set(row) <= couplings[0].fixed else sum(s[axis] for s in shapes)
                for axis, row in enumerate(axes)
            ]
            zeros = tensor.new_zeros(lengths)
            store[key] = nn.Parameter(zeros) if store is module._parameters else zeros
    if isinstance(module, nn.Conv2d):
        if module.groups > 1:
            module.groups = sum(part.groups for part in parts)
        module.out_channels, module.in_channels = module.weight.shape[0], module.weight.shape[1] * module.groups
    elif isinstance(module, nn.Linear):
        module.out_features, module.in_features = module.weight.shape
    elif isinstance(module, nn.GroupNorm):
        module.num_groups, module.num_channels = (sum(getattr(p, n) for p in parts) for n in _GROUPS)
    elif isinstance(module, nn.modules.batchnorm._NormBase):
        module.num_features = sum(part.num_features for part in parts)


def _owners(coupling: Coupling, parts: Sequence[Coupling], pads: Collection[str]) -> dict[int, int | None]:
    """Which part every channel of the assembled network comes from, None for the image, which all share.

    pads: operations that pad with channels. In a stream that goes through one, those of all parts stand in front, then
    what all parts had before, then those behind; else each part's channels stand together.
    """
    owners: dict[int, int | None] = dict.fromkeys(coupling.fixed)
    padded = set[int]()
    for size in (size for size in coupling.sizes if size.node in pads):
        of = [
            number
            for number, part in enumerate(parts)
            for one in part.sizes
            if (one.node, one.at) == (size.node, size.at)
            for _ in one.channels
        ]
        owners.update(zip(size.channels, of, strict=True))
        padded.update(size.channels)
    for layer, *own in zip(coupling.layers, *(part.layers for part in parts), strict=True):
        of = [number for number, one in enumerate(own) for _ in one.outputs]
        if not padded.isdisjoint(layer.outputs):
            known = [owners.get(channel) for channel in layer.outputs]
            if sorted(number for number in known if number is not None) == of:
                continue
        for channel, number in zip(layer.outputs, of, strict=True):
            if owners.setdefault(channel, number) != number:
                raise BrickyardError(f"channels of several components would meet before or in {layer.name}")
    return owners


def _tensor(model: nn.Module, path: str) -> torch.Tensor:
    owner, _, name = path.rpartition(".")
    return getattr(model.get_submodule(owner), name).data
