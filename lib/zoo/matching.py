"""Where in a checkpoint a network's weights are: the dictionary and the prefix, found by the network's own names."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from .weightsfile import dictionaries

# Of several places that all fit, the first is taken: plain weights before averaged ones, then the order of this list.
_NESTS = (
    *("state_dict", "model", "model_state_dict", "state_dict_ema", "model_ema", "net", "model_state", "network"),
    *("params", "weights", "module", "student", "ema", "ema_state_dict", "teacher"),
)
_WRAPPERS = ("module", "_orig_mod", "_forward_module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
_PREFIXES = (*_WRAPPERS, "model", "net", "network", "backbone", "encoder", "student", "online_encoder", "encoder_q")
_AVERAGED = {"ema", "averaged", "average", "avg", "swa", "teacher", "momentum", "target", "shadow"}
_STATES = {"grad", "grads", "gradients", "exp_avg", "momentum_buffer", "mask", "masks", "criterion", "loss", "losses"}


@dataclass(frozen=True)
class Place:
    """A dictionary of a checkpoint and the prefix of the network's names in it.

    nest: the keys that lead to it.
    held: the dictionary.
    names: {name in the network: name there}, as far as there is one.
    how: what else was done to the names, for people.
    """

    nest: tuple[str, ...]
    prefix: str
    held: Mapping[str, Any]
    names: Mapping[str, str]
    how: str = ""

    def fitting(self, own: Mapping[str, torch.Tensor]) -> int:
        """How many tensors of the network are there with its shape."""
        return sum(fits(self.held[there], own[name]) for name, there in self.names.items())

    def leftover(self) -> tuple[list[str], list[str]]:
        """Tensors that the network has not: inside the prefix, and outside of it."""
        taken = set(self.names.values())
        rest = [key for key, value in self.held.items() if isinstance(value, torch.Tensor) and key not in taken]
        inside = [key for key in rest if key.startswith(self.prefix)]
        return inside, [key for key in rest if not key.startswith(self.prefix)]

    def __str__(self) -> str:
        """As people are told: `state_dict, prefix module.`; nothing for a plain state_dict."""
        prefix = f"prefix {self.prefix}" if self.prefix else ""
        return ", ".join(part for part in (".".join(self.nest), prefix, self.how) if part)

    def rank(self) -> tuple[bool, int, int, int]:
        """The smaller, the rather it is what is meant."""
        prefixes = self.prefix.split(".")[:-1]
        unknown = sum(part not in _PREFIXES for part in prefixes)
        order = max((_NESTS.index(key) if key in _NESTS else len(_NESTS) for key in self.nest), default=-1)
        return any(map(_averaged, (*self.nest, *prefixes))), order, unknown, len(self.nest) + len(prefixes)

    def before(self, other: "Place") -> bool:
        """Whether it is rather meant than `other`, which comes behind it; False when nothing tells them apart."""
        own, its = self.rank(), other.rank()
        known = own[1] < len(_NESTS) and own[2] == 0
        return own[:3] < its[:3] or (known and own < its)


def fits(value: Any, own: torch.Tensor) -> bool:
    """Whether `value` is a tensor of the shape of `own`; a number and a list of one number are alike."""
    if not isinstance(value, torch.Tensor) or value.is_nested:
        return False
    return value.shape == own.shape or (value.numel() == own.numel() == 1 and max(value.ndim, own.ndim) <= 1)


def groups(own: Mapping[str, torch.Tensor]) -> list[list[str]]:
    """The names of a state_dict, those of one shared tensor together."""
    found: dict[Any, list[str]] = {}
    for name, tensor in own.items():
        whole = tensor.numel() and not tensor.is_meta
        memory = (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype) if whole else name
        found.setdefault(memory, []).append(name)
    return list(found.values())


def places(own: Mapping[str, torch.Tensor], tree: Mapping[str, Any]) -> list[Place]:
    """Every place that has all tensors of the network by name: those where most shapes fit, then as they are ranked;
    when there is none, the one that has most of them.

    Names of one shared tensor stand for each other, and so do those of weight norm, old and new. Counts of batches
    (`num_batches_tracked`) may be missing. Where no place has all names as they are, `module.` and the like are taken
    out of the middle of names, or the network's own outermost module is left out.
    """
    held = [(nest, named) for nest, named in dictionaries(tree) if not any(map(_is_state, nest))]
    wanted = [{name: [name, *_weight_norm(name, own)] for name in group} for group in groups(own)]
    found = [place for nest, named in held for place in _whole(wanted, nest, {key: key for key in named}, named)]
    if not found:
        bare = [{name: [_unwrapped(n) for n in there] for name, there in group.items()} for group in wanted]
        for nest, named in held:
            short = {_unwrapped(key): key for key in named}
            if len(short) == len(named):
                found += _whole(bare, nest, short, named, "wrappers taken out")
    outer = {name.partition(".")[0] for name in own}
    if not found and len(outer) == 1 and all(name.count(".") > 1 for name in own):
        inner = [{name: [n.partition(".")[2] for n in there] for name, there in group.items()} for group in wanted]
        for nest, named in held:
            found += _whole(inner, nest, {key: key for key in named}, named, f"without {min(outer)}.")
    if found:
        return sorted(found, key=lambda place: (-place.fitting(own), place.rank()))
    parts = [
        _place(wanted, nest, prefix, {key: key for key in named}, named)
        for nest, named in held
        for prefix, _ in _prefixes(wanted, named).most_common(3)
    ]
    return sorted(parts, key=lambda place: (-place.fitting(own), -len(place.names), place.rank()))[:1]


_Wanted = list[dict[str, list[str]]]  # a group: {name in the network: names that may stand for it in a file}


def _whole(
    wanted: _Wanted, nest: tuple[str, ...], keys: Mapping[str, str], held: Mapping[str, Any], how: str = ""
) -> Iterator[Place]:
    """The places in a dictionary that have all groups; keys: {name to look for: key of the dictionary}."""
    needed = [group for group in wanted if not all(name.endswith("num_batches_tracked") for name in group)]
    for prefix, count in _prefixes(wanted, keys).items():
        if count >= len(needed):
            place = _place(wanted, nest, prefix, keys, held, how)
            if all(name in place.names for group in needed for name in group):
                yield place


def _place(
    wanted: _Wanted,
    nest: tuple[str, ...],
    prefix: str,
    keys: Mapping[str, str],
    held: Mapping[str, Any],
    how: str = "",
) -> Place:
    names = {}
    for group in wanted:
        there = {name: next((prefix + n for n in all_ if prefix + n in keys), None) for name, all_ in group.items()}
        given = next((key for key in there.values() if key is not None), None)
        for name, key in there.items():
            if given is not None:
                names[name] = keys[given if key is None else key]
    return Place(nest, prefix, held, names, how)


def _prefixes(wanted: _Wanted, keys: Mapping[str, Any]) -> Counter[str]:
    """How many keys are a name of the network behind each prefix."""
    known = {name for group in wanted for all_ in group.values() for name in all_}
    found: Counter[str] = Counter()
    for key in keys:
        for start in (0, *(match.end() for match in re.finditer(r"\.", key))):
            found[key[:start]] += key[start:] in known
    return +found


def _weight_norm(name: str, own: Mapping[str, Any]) -> list[str]:
    """What `weight_g` and `weight_v` are called since weight norm is a parametrization, and the other way round."""
    if match := re.fullmatch(r"(.*)parametrizations\.(\w+)\.original([01])", name):
        return [f"{match[1]}{match[2]}_{'gv'[int(match[3])]}"]
    match = re.fullmatch(r"(.*?)(\w+)_([gv])", name)
    if match and all(f"{match[1]}{match[2]}_{end}" in own for end in "gv"):
        return [f"{match[1]}parametrizations.{match[2]}.original{'gv'.index(match[3])}"]
    return []


def _unwrapped(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in _WRAPPERS)


def _averaged(part: str) -> bool:
    words = re.split(r"[^a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", part).lower())
    return part == "encoder_k" or not _AVERAGED.isdisjoint(words)


def _is_state(part: str) -> bool:
    """Whether a dictionary of this name holds tensors by the names of weights that are none."""
    return part.lower() in _STATES or part.lower().startswith("optim")
