"""Copies of networks."""

import copy
from typing import Any, TypeVar

import torch
from torch import nn

M = TypeVar("M", bound=nn.Module)


def duplicate(module: M) -> M:
    """A copy that shares nothing with `module`.

    Weights that are made anew in each pass (old weight_norm, spectral_norm, pruning masks) hang on their gradients'
    graph, which Python's deepcopy refuses to copy; the copy makes them anew, too.
    """
    return copy.deepcopy(module, made_anew(module))


def made_anew(module: nn.Module) -> dict[int, Any]:
    """Copies of such weights, as the memory of a deepcopy."""
    made = [
        tensor
        for part in module.modules()
        for tensor in (*vars(part).values(), *part._buffers.values())
        if isinstance(tensor, torch.Tensor) and not tensor.is_leaf
    ]
    return {id(tensor): tensor.detach().clone() for tensor in made}


def evaluating(module: M, device: torch.device | None = None) -> M:
    """`module` in eval mode, on `device` if one is given: itself where it is so already, else a copy.

    For code that runs a network and changes nothing of it: the caller's stays as and where it is.
    """
    tensors = [*module.parameters(), *module.buffers()]
    there = device is None or all(_is_on(tensor, device) for tensor in tensors)
    if there and not any(part.training for part in module.modules()):
        return module
    copy = duplicate(module).eval()
    return copy if device is None else copy.to(device)


def _is_on(tensor: torch.Tensor, device: torch.device) -> bool:
    return tensor.device.type == device.type and device.index in (None, tensor.device.index)
