"""Filling a network from a file: safetensors, or .pth without code; every weight, or a line that says which is not."""

from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lib.errors import BrickyardError

_NESTS = ("state_dict", "model", "model_state_dict", "state_dict_ema", "model_ema", "net")
_PREFIXES = ("module.", "_orig_mod.", "model.")


def read(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a checkpoint by name, taken out of the dictionaries and prefixes that training scripts add.

    Raises BrickyardError naming the file when it is missing, damaged, would run code, or holds no tensors or NaN.
    """
    if not path.is_file():
        raise BrickyardError(f"weights: no file {path}; use train, pretrained or the path of a checkpoint")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state: Any = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged files and refused pickles come in many kinds
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BrickyardError(f"{path} cannot be read without running code from it, or is damaged: {reason}") from error
    for nest in _NESTS:
        if isinstance(state, Mapping) and isinstance(state.get(nest), Mapping):
            state = state[nest]
    tensors = {k: v for k, v in state.items() if isinstance(v, torch.Tensor)} if isinstance(state, Mapping) else {}
    if not tensors:
        raise BrickyardError(f"{path} holds no tensors by name; a checkpoint is a state_dict")
    for prefix in _PREFIXES:
        if all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    check_finite(tensors, path)
    return tensors


def check_finite(tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    """Raises BrickyardError naming the first tensor of the file `path` that holds NaN or infinite numbers."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise BrickyardError(f"{path}: {name} holds NaN or infinite numbers")


def classes(model: nn.Module, tensors: Mapping[str, torch.Tensor]) -> int | None:
    """How many classes a checkpoint of the same architecture has, where that is all in which it differs; else None.

    The classifier's tensors are those whose shapes differ, in their first dimension alone and all alike.
    """
    own = model.state_dict()
    differing = [(own[name], t) for name, t in tensors.items() if name in own and own[name].shape != t.shape]
    counts = {(a.shape[0], b.shape[0]) for a, b in differing if a.shape[1:] == b.shape[1:]}
    alike = len(counts) == 1 and all(a.shape[1:] == b.shape[1:] for a, b in differing)
    return next(iter(counts))[1] if alike else None


def fill(model: nn.Module, tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    """Loads `tensors` into `model`. Raises BrickyardError naming what does not fit or stays unfilled."""
    own = model.state_dict()
    missing = [name for name in own if name not in tensors and not name.endswith("num_batches_tracked")]
    unknown = [name for name in tensors if name not in own]
    shapes = [n for n, t in tensors.items() if n in own and own[n].shape != t.shape]
    if missing:
        raise BrickyardError(f"{path} leaves {_some(missing)} unfilled; is it of another architecture?")
    if shapes and (count := classes(model, tensors)) is not None:
        raise BrickyardError(f"{path} has {count} classes; write `classes: own` to keep them")
    if shapes:
        first = f"{shapes[0]} is {list(tensors[shapes[0]].shape)} there and {list(own[shapes[0]].shape)} here"
        raise BrickyardError(f"{path} does not fit: {first} ({len(shapes)} such); is it of another architecture?")
    if unknown:
        raise BrickyardError(f"{path} has {_some(unknown)} that the network has not; is it of another architecture?")
    assign(model, {**own, **tensors})


def assign(model: nn.Module, tensors: Mapping[str, torch.Tensor]) -> None:
    """Loads what `model.state_dict()` gave once; the versions that some modules ask for are the model's own."""
    state: Any = OrderedDict(tensors)
    state._metadata = getattr(model.state_dict(), "_metadata", {})
    model.load_state_dict(state)


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
