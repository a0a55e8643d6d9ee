"""What enters and leaves modules while a network runs."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from threading import local
from typing import Any

import torch
from torch import nn


class _ReachedError(Exception):
    """Ends a forward pass; given: what had entered the layer that it was to reach."""

    def __init__(self, given: torch.Tensor) -> None:
        super().__init__()
        self.given = given


def around(part: nn.Module, layer: nn.Module, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What enters and what leaves `layer` when `part` runs on x; nothing behind it is run."""
    found: list[torch.Tensor] = []

    def stop(_: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        found.extend((inputs[0], output))
        raise _ReachedError(inputs[0])

    handle = layer.register_forward_hook(stop)
    try:
        part(x.clone())  # parts may change their input
    except _ReachedError:
        pass
    finally:
        handle.remove()
    return found[0], found[1]


Run = Callable[[torch.Tensor], torch.Tensor]
Seen = Callable[[str, torch.Tensor], torch.Tensor]  # of what a layer, by name, gives


@contextmanager
def entering(part: nn.Module, layer: nn.Module) -> Iterator[Run]:
    """Inside: what enters `layer` when `part` runs on a batch; it is not run itself, nor is anything behind it. Several
    threads may ask.
    """

    def stop(_: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        raise _ReachedError(inputs[0])

    def run(x: torch.Tensor) -> torch.Tensor:
        try:
            part(x.clone())  # parts may change their input
        except _ReachedError as reached:
            return reached.given
        raise AssertionError("the layer does not run")

    handle = layer.register_forward_pre_hook(stop)
    try:
        yield run
    finally:
        handle.remove()


@contextmanager
def leaving(
    part: nn.Module, layers: Mapping[str, nn.Module]
) -> Iterator[Callable[[torch.Tensor, Seen], tuple[torch.Tensor, dict[str, torch.Tensor]]]]:
    """Inside: what `part` makes of a batch, and by name what is `seen` of the output of each of the layers, which all
    run once. Several threads may ask.
    """
    own = local()

    def run(x: torch.Tensor, seen: Seen) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        own.seen, own.found = seen, dict[str, torch.Tensor]()
        return part(x.clone()), own.found

    def keep(name: str, output: Any) -> None:
        own.found[name] = own.seen(name, output)

    handles = [
        layer.register_forward_hook(lambda _, given, output, name=name: keep(name, output))
        for name, layer in layers.items()
    ]
    try:
        yield run
    finally:
        for handle in handles:
            handle.remove()


def readers(part: nn.Module, x: torch.Tensor, wanted: Callable[[nn.Module], bool]) -> dict[str, str]:
    """Of the `wanted` layers those that are given what another one has made, just as it was: by name the other's."""
    made, found = dict[int, tuple[str, torch.Tensor, int]](), dict[str, str]()

    def before(name: str, given: torch.Tensor) -> None:
        other, output, version = made.get(id(given), ("", given, -1))
        if output is given and given._version == version:
            found[name] = other

    def after(name: str, output: torch.Tensor) -> None:
        made[id(output)] = name, output, output._version

    handles = list[Any]()
    for name, layer in part.named_modules():
        if wanted(layer):
            handles.append(layer.register_forward_pre_hook(lambda _, given, name=name: before(name, given[0])))
            handles.append(layer.register_forward_hook(lambda _, given, output, name=name: after(name, output)))
    try:
        part(x[:1].clone())
    finally:
        for handle in handles:
            handle.remove()
    return found


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
