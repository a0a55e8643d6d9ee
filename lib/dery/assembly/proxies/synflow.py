"""SynFlow (Tanaka et al. 2020): how much synaptic strength flows through a network, without any image."""

from math import inf, log
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ....trace.duplicate import duplicate

if TYPE_CHECKING:
    from ..built import Built

BETTER = "high"


def predict(made: "Built") -> float | None:
    """SynFlow of the finished network, without images."""
    return synflow(made.network, made.recipe.input.shape)


def synflow(network: nn.Module, shape: tuple[int, ...]) -> float | None:
    """log of sum |theta * dR/dtheta| over weights of convolutions and linear layers, None where that is not finite.

    R is the sum of the outputs for an input of ones [1, *shape], in double precision, all parameters replaced by their
    absolute values and every BatchNorm by the identity.
    """
    copy = duplicate(network).cpu().double().eval()
    weights = [m.weight for m in copy.modules() if isinstance(m, nn.Linear | nn.modules.conv._ConvNd)]
    if not weights:
        return None
    with torch.no_grad():
        for parameter in copy.parameters():
            parameter.abs_()
    for module in copy.modules():
        if isinstance(module, _BatchNorm):
            _make_identity(module)
    for parameter in copy.parameters():
        parameter.requires_grad_(False)
    for weight in weights:
        weight.requires_grad_(True)
    with torch.enable_grad():
        flow = copy(torch.ones(1, *shape, dtype=torch.float64)).sum()
    gradients = torch.autograd.grad(flow, weights, allow_unused=True)
    shares = [float((w * g).detach().abs().sum()) for w, g in zip(weights, gradients, strict=True) if g is not None]
    total = sum(shares)
    return log(total) if 0 < total < inf else None


@torch.no_grad()
def _make_identity(layer: _BatchNorm) -> None:
    for tensor, value in ((layer.weight, 1), (layer.bias, 0), (layer.running_mean, 0), (layer.running_var, 1)):
        if tensor is not None:
            tensor.fill_(value)
    layer.eps = 0.0
