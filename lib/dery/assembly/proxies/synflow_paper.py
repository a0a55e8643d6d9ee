"""SynFlow as it was published (Tanaka et al. 2020, section 5 and their code), summed up as the code of DeRy does."""

from math import isfinite
from typing import TYPE_CHECKING

import torch
from torch import nn

from ....trace.duplicate import duplicate

if TYPE_CHECKING:
    from ..built import Built

BETTER = "high"


def predict(made: "Built") -> float | None:
    """The published SynFlow of the finished network, without images."""
    return synflow_paper(made.network, made.recipe.input.shape)


def synflow_paper(network: nn.Module, shape: tuple[int, ...]) -> float | None:
    """sum |theta * dR/dtheta| over all parameters, those of norms and biases too; None where that is not finite.

    R is the sum of the outputs for an input of ones [1, *shape] in eval mode, all that is stored in the network
    replaced by its absolute value: parameters and running statistics, by which BatchNorm normalises as ever.

    Beside `synflow`: BatchNorm stays, every parameter counts, and no logarithm is taken. Differs from the paper: double
    precision; their pruning scores weights of convolutions and linear layers alone, and DeRy's code is in train mode,
    where the one image of ones is normalised by itself.
    """
    copy = duplicate(network).cpu().double().eval().requires_grad_(True)
    parameters = list(copy.parameters())
    if not parameters:
        return None
    with torch.no_grad():
        for stored in (*parameters, *copy.buffers()):
            if stored.is_floating_point():
                stored.abs_()
    with torch.enable_grad():
        flow = copy(torch.ones(1, *shape, dtype=torch.float64)).sum()
    found = torch.autograd.grad(flow, parameters, allow_unused=True)
    total = sum(float((w * g).detach().abs().sum()) for w, g in zip(parameters, found, strict=True) if g is not None)
    return total if isfinite(total) else None
