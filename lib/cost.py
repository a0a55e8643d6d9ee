"""What a network costs: parameters and MACs (one MAC = two FLOPs), counted, never estimated."""

from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


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
    """Cost of `module` for one input of `shape` (without the batch dimension)."""
    training = module.training
    parameter = next(module.parameters(), None)
    x = torch.zeros(1, *shape, device=parameter.device if parameter is not None else None)
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        module.eval()(x)
    module.train(training)
    return Cost(params(module), counter.get_total_flops() // 2)


def params(module: nn.Module) -> int:
    """Number of parameters, shared ones once."""
    return sum(parameter.numel() for parameter in module.parameters())
