"""What enters and leaves modules while a network runs."""

from collections.abc import Callable, Sequence

import torch
from torch import nn


class _ReachedError(Exception):
    """Ends a forward pass."""


def around(part: nn.Module, layer: nn.Module, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What enters and what leaves `layer` when `part` runs on x; nothing behind it is run."""
    found: list[torch.Tensor] = []

    def stop(_: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        found.extend((inputs[0], output))
        raise _ReachedError

    handle = layer.register_forward_hook(stop)
    try:
        part(x.clone())  # parts may change their input
    except _ReachedError:
        pass
    finally:
        handle.remove()
    return found[0], found[1]


def arriving(network: nn.Module, modules: Sequence[nn.Module], x: torch.Tensor) -> list[torch.Tensor]:
    """What enters each of the `modules`, which all run, when `network` runs on x."""
    found = dict[nn.Module, torch.Tensor]()

    def keep(module: nn.Module, given: tuple[torch.Tensor, ...]) -> None:
        found[module] = given[0].clone()

    handles = [module.register_forward_pre_hook(keep) for module in modules]
    try:
        network(x.clone())
    finally:
        for handle in handles:
            handle.remove()
    return [found[module] for module in modules]


def order(part: nn.Module, x: torch.Tensor, wanted: Callable[[nn.Module], bool]) -> list[str]:
    """The `wanted` layers that run once when `part` runs on x, in the order in which they do."""
    ran: list[str] = []
    handles = [
        layer.register_forward_hook(lambda *_, name=name: ran.append(name))
        for name, layer in part.named_modules()
        if wanted(layer)
    ]
    part(x[:1].clone())
    for handle in handles:
        handle.remove()
    return [name for name in ran if ran.count(name) == 1]
