"""What a network costs: parameters and MACs (one MAC = two FLOPs), counted, never estimated."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

BATCHES = (2, 3)  # two sizes tell what grows with the batch


@dataclass(frozen=True)
class Cost:
    """params: number of parameters; macs: multiply-accumulates for one image."""

    params: int = 0
    macs: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.params + other.params, self.macs + other.macs)

    def within(self, params: float | None, macs: float | None) -> bool:
        """Whether both limits hold; None is no limit."""
        return (params is None or self.params <= params) and (macs is None or self.macs <= macs)


def count(module: nn.Module, shape: tuple[int, ...] | torch.Size) -> Cost:
    """Cost of `module` in eval mode for one input of `shape` (without the batch dimension); nothing is computed."""
    modes = {part: part.training for part in module.modules()}
    flops = []
    with without_data(module.eval()):
        for batch in BATCHES:
            with FlopCounterMode(display=False) as counter:
                module(torch.zeros(batch, *shape, device="meta"))
            flops.append(counter.get_total_flops())
    for part, mode in modes.items():
        part.training = mode
    return Cost(params(module), macs_of_one(flops[0], flops[1]))


def macs_of_one(flops_of_two: int, flops_of_three: int) -> int:
    """MACs for one image: what grows with the batch, once, and what is done once for a batch of any size."""
    return (2 * flops_of_two - flops_of_three) // 2


@contextmanager
def without_data(module: nn.Module) -> Iterator[None]:
    """Inside, the weights of `module` are shapes without numbers, and so are new tensors."""
    places: list[dict[str, Any]] = [
        own for part in module.modules() for own in (part._parameters, part._buffers, vars(part))
    ]
    kept = [(own, name, tensor) for own in places for name, tensor in own.items() if isinstance(tensor, torch.Tensor)]
    for own, name, tensor in kept:
        own[name] = tensor.detach().to("meta")
    try:
        with torch.no_grad(), torch.device("meta"):
            yield
    finally:
        for own, name, tensor in kept:
            own[name] = tensor


def params(module: nn.Module) -> int:
    """Number of parameters, shared ones once."""
    return sum(parameter.numel() for parameter in module.parameters())
