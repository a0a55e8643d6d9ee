"""Filling a network from a checkpoint: every weight, or a line that says which is not, and no weight at all."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..base.errors import BrickyardError
from . import matching, weightsfile
from .matching import Place

read = weightsfile.read


@dataclass(frozen=True)
class Filled:
    """How weights were filled in: `nest`, the keys that lead to their dictionary, joined by dots; the prefix of their
    names; what else was done to names (`how`); tensors of that dictionary that do not belong to the network
    (`ignored`); other places with other weights for it (`others`); types that were converted.
    """

    nest: str = ""
    prefix: str = ""
    how: str = ""
    ignored: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    converted: tuple[str, ...] = ()

    def __str__(self) -> str:
        """For the card: `state_dict, prefix module., from float16`; nothing where there is nothing to tell."""
        parts = [self.nest, f"prefix {self.prefix}" * bool(self.prefix), self.how]
        parts += [f"from {' and '.join(self.converted)}"] if self.converted else []
        parts += [f"not {'; '.join(self.others)}"] if self.others else []
        parts += [f"ignored {_some(self.ignored)}"] if self.ignored else []
        return ", ".join(part for part in parts if part)


def check_finite(tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    """Raises BrickyardError naming the first tensor of the file `path` that holds NaN or infinite numbers."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise BrickyardError(f"{path}: {name} holds NaN or infinite numbers")


def classes(model: nn.Module, held: Mapping[str, Any]) -> int | None:
    """How many classes a checkpoint of the same architecture has, where that is all in which it differs; else None.

    held: as `read` gives it. The classifier's tensors are those whose shapes differ, in their first dimension alone and
    all alike.
    """
    own = _own(model)
    found = matching.places(own, held)
    return _classes(own, found[0]) if found else None


def fill(model: nn.Module, held: Mapping[str, Any], path: Path) -> Filled:
    """Loads into `model` what `read` gave for `path`, from wherever in it the network's weights are.

    Raises BrickyardError naming what does not fit or stays unfilled; the network is then as it was.
    """
    tensors, found = _find(model, held, path)
    before = {name: tensor.clone() for name, tensor in _own(model).items()}
    try:
        assign(model, {**model.state_dict(), **tensors})
    except Exception as error:  # of a module that loads its weights in a way of its own
        with torch.no_grad():
            for name, tensor in _own(model).items():
                tensor.copy_(before[name])
        reason = " ".join(str(error).split())[:200]
        raise BrickyardError(f"{path}: the network does not take these weights: {reason}") from error
    return found


def found(model: nn.Module, path: Path) -> Filled:
    """What `fill` would say of a file; nothing is filled. Raises BrickyardError as `read` and `fill` do."""
    return _find(model, read(path), path)[1]


def assign(model: nn.Module, tensors: Mapping[str, torch.Tensor]) -> None:
    """Loads what `model.state_dict()` gave once; the versions that some modules ask for are the model's own."""
    state: Any = OrderedDict(tensors)
    state._metadata = getattr(model.state_dict(), "_metadata", {})
    model.load_state_dict(state)


def _find(model: nn.Module, held: Mapping[str, Any], path: Path) -> tuple[dict[str, torch.Tensor], Filled]:
    """What is to be loaded, by the network's names, and where it was."""
    own = _own(model)
    places = matching.places(own, held)
    if not places:
        raise BrickyardError(f"{path} leaves {_some(list(own))} unfilled; is it of another architecture?")
    place, said = places[0], f"{path} ({places[0]})" if str(places[0]) else str(path)
    rivals = [other for other in places[1:] if other.fitting(own) == place.fitting(own)]
    copies = {key for other in rivals if other.nest == place.nest for key in other.names.values()}
    inside, outside = ([key for key in keys if key not in copies] for keys in place.leftover())
    unsaved = {place.prefix + name: buffer for name, buffer in model.named_buffers() if name not in own}
    inside = [key for key in inside if key not in unsaved or not torch.equal(unsaved[key], place.held[key])]
    _check_names(own, place, inside, said)
    tensors = {name: _converted(name, place, own[name], said) for name in place.names}
    _check_shared(own, tensors, said)
    others = [other for other in rivals if not _same(place, other)]
    for other in others:
        if not place.before(other):
            both = " and ".join(str(one) or "plain" for one in (place, other))
            raise BrickyardError(f"{path} holds weights for this network twice, in {both}; save one of them alone")
    floating = {place.held[there].dtype for name, there in place.names.items() if own[name].is_floating_point()}
    converted = floating - {tensor.dtype for tensor in own.values()}
    return tensors, Filled(
        nest=".".join(place.nest),
        prefix=place.prefix,
        how=place.how,
        ignored=tuple(outside),
        others=tuple(str(other) or "plain" for other in others),
        converted=tuple(sorted(str(kind).removeprefix("torch.") for kind in converted)),
    )


def _own(model: nn.Module) -> dict[str, torch.Tensor]:
    """The tensors that a network saves, by name. Raises BrickyardError when there are none or not yet."""
    own = {name: value for name, value in model.state_dict().items() if isinstance(value, torch.Tensor)}
    if not own:
        raise BrickyardError("the network has no weights that a checkpoint could fill")
    for name, value in own.items():
        if nn.parameter.is_lazy(value):
            raise BrickyardError(f"{name} has no shape before the network has run; build it without lazy modules")
    return own


def _classes(own: Mapping[str, torch.Tensor], place: Place) -> int | None:
    held = [(own[name], place.held[there]) for name, there in place.names.items()]
    differing = [(a, b) for a, b in held if not matching.fits(b, a)]
    if not all(isinstance(b, torch.Tensor) and _stored(b) and a.ndim and b.ndim for a, b in differing):
        return None
    counts = {(a.shape[0], b.shape[0]) for a, b in differing}
    alike = len(counts) == 1 and all(a.shape[1:] == b.shape[1:] for a, b in differing)
    return next(iter(counts))[1] if alike else None


def _stored(tensor: torch.Tensor) -> bool:
    """Whether a tensor has memory of its own for all its numbers, and does not only pretend to have that many."""
    dense = not tensor.is_nested and tensor.layout == torch.strided and not tensor.is_meta
    return dense and tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes()


def _check_names(own: Mapping[str, torch.Tensor], place: Place, unknown: Sequence[str], said: str) -> None:
    """Raises BrickyardError unless every tensor is there, is one that can be taken, and has its shape; and no other."""
    missing = [name for name in own if name not in place.names and not name.endswith("num_batches_tracked")]
    if missing:
        norm = [name for name in unknown if name.endswith(("_g", "_orig", "original", "original0"))]
        hint = f" ({norm[0]} is of a weight norm or mask that this network has not)" if norm else ""
        raise BrickyardError(f"{said} leaves {_some(missing)} unfilled; is it of another architecture?{hint}")
    for name, there in place.names.items():
        if (reason := _unusable(place.held[there], own[name])) is not None:
            raise BrickyardError(f"{said}: {there} is {reason}")
    shapes = [name for name, there in place.names.items() if not matching.fits(place.held[there], own[name])]
    if shapes and (count := _classes(own, place)) is not None:
        raise BrickyardError(f"{said} has {count} classes; write `classes: own` to keep them")
    if shapes:
        there = list(place.held[place.names[shapes[0]]].shape)
        first = f"{shapes[0]} is {there} there and {list(own[shapes[0]].shape)} here"
        raise BrickyardError(f"{said} does not fit: {first} ({len(shapes)} such); is it of another architecture?")
    if unknown:
        raise BrickyardError(f"{said} has {_some(unknown)} that the network has not; is it of another architecture?")


def _unusable(value: Any, own: torch.Tensor) -> str | None:
    """Why a value cannot be taken for a tensor of the network, whatever its shape; None where it can."""
    if not isinstance(value, torch.Tensor):
        return f"{'an' if type(value).__name__[0] in 'aeio' else 'a'} {type(value).__name__}, not a tensor"
    kind = str(value.dtype).removeprefix("torch.")
    if value.is_quantized:
        return f"quantised ({kind}); save the network before it is quantised"
    if value.is_nested or value.layout != torch.strided:
        return f"{'nested' if value.is_nested else 'sparse'}; save it dense"
    if value.is_meta:
        return "a shape without numbers (meta)"
    if value.dtype == own.dtype:
        return None
    if kind.startswith("float8") or _family(value) != _family(own):
        return f"{kind}, and {str(own.dtype).removeprefix('torch.')} in the network"
    return None


def _family(tensor: torch.Tensor) -> str:
    if tensor.is_floating_point():
        return "float"
    return "complex" if tensor.is_complex() else "bool" if tensor.dtype == torch.bool else "integer"


def _converted(name: str, place: Place, own: torch.Tensor, said: str) -> torch.Tensor:
    """The tensor for `name` in the network's type and shape.

    Raises BrickyardError for NaN and infinite numbers that the network does not have itself, and for numbers that its
    type cannot hold.
    """
    there = place.names[name]
    given = place.held[there].detach()
    made = given.to(own.dtype).reshape(own.shape)
    if made.is_floating_point() or made.is_complex():
        if not (torch.isfinite(given).reshape(own.shape) | (given.reshape(own.shape) == own)).all():
            raise BrickyardError(f"{said}: {there} holds NaN or infinite numbers")
        if not (torch.isfinite(made) | (made == own)).all():
            raise BrickyardError(f"{said}: {there} holds numbers that {str(own.dtype).removeprefix('torch.')} has not")
    elif not torch.equal(made.to(given.dtype), given.reshape(own.shape)):
        raise BrickyardError(f"{said}: {there} holds numbers that {str(own.dtype).removeprefix('torch.')} has not")
    return made


def _check_shared(own: Mapping[str, torch.Tensor], tensors: Mapping[str, torch.Tensor], said: str) -> None:
    """Raises BrickyardError when names of one tensor of the network have different numbers."""
    for first, *rest in matching.groups(own):
        for name in rest:
            if name in tensors and not torch.equal(tensors[first], tensors[name]):
                raise BrickyardError(f"{said}: {first} and {name} are one tensor here and differ there")


def _same(place: Place, other: Place) -> bool:
    held = [
        (place.held[there], other.held[other.names[name]]) for name, there in place.names.items() if name in other.names
    ]
    return all(isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b) for a, b in held)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
