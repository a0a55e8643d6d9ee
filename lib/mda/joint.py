"""Two layers of a repair that follow each other, fitted together: the first for what the second can make of it."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from lib.mda.refit import Goal, refit

_ITERATIONS = 10  # of conjugate gradients
_ROWS = 2**13  # most rows of a regression here


def improve(
    x: torch.Tensor,
    first: Any,
    between: Callable[[torch.Tensor], torch.Tensor],
    second: Any,
    goal: Goal,
    ridge: float,
    free: tuple[bool, bool],
    steps: int,
    rounds: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The weight of `first` and its bias [O], even if it has none, with which `second` comes nearer to its goal.

    x: what `first` is given; between: what happens to its output before `second`, convolutions or linear layers both;
    goal: of `second`; free: whether the biases of either are. A round fits `second` (see `lib.mda.refit.refit`) and
    then takes a Gauss-Newton step on `first`: least squares of what `second` misses, linear in the change of the
    weights, which costs `ridge` times the mean diagonal; by conjugate gradients. `second` is left as it was.
    """
    weight = first.weight.detach().clone()
    bias = weight.new_zeros(len(weight)) if first.bias is None else first.bias.detach()
    for _ in range(rounds):
        given = between(_apply(first, x, weight, bias))
        wanted, offset = refit(given, goal, second, ridge, free[1], steps, _ROWS)
        missed = _missed(goal, _apply(second, given, wanted, offset))
        change = _Tangent(x, first, between, second, wanted, weight, bias).solve(missed, ridge, free[0])
        weight, bias = weight + change[0], bias + change[1]
    return weight, bias


def _apply(layer: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    if isinstance(layer, nn.Linear):
        return F.linear(x, weight, bias)
    if layer.padding_mode != "zeros":
        x = F.pad(x, layer._reversed_padding_repeated_twice, mode=layer.padding_mode)
        return F.conv2d(x, weight, bias, layer.stride, 0, layer.dilation, layer.groups)
    return F.conv2d(x, weight, bias, layer.stride, layer.padding, layer.dilation, layer.groups)


def _missed(goal: Goal, made: torch.Tensor) -> torch.Tensor:
    """Goal minus what is made; nothing where both lie below the floor."""
    target = goal.target
    if goal.floor is not None and goal.sign is not None:
        sign = goal.sign.view(1, -1, *[1] * (made.ndim - 2))
        target, floor = target * sign, goal.floor * sign
        target = torch.where(target > floor, target, torch.minimum(made * sign, floor)) * sign
    return target - made


class _Tangent:
    """What `second`, of the given weight, makes of small changes of the weight and bias of `first`: J d."""

    def __init__(
        self,
        x: torch.Tensor,
        first: Any,
        between: Callable[[torch.Tensor], torch.Tensor],
        second: Any,
        wanted: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor,
    ):
        self.x, self.first, self.second, self.wanted = x, first, second, wanted
        with torch.enable_grad():
            self.at = weight.clone().requires_grad_(), bias.clone().requires_grad_()
            self.z = _apply(first, x, *self.at)
            given = between(self.z)
            self.made = _apply(second, given, wanted, None)
            # the derivative of `between` is the transpose of what takes errors back through it, which is linear
            self.error = torch.zeros_like(given, requires_grad=True)
            (self.back,) = torch.autograd.grad(given, self.z, self.error, create_graph=True)

    def split(self, d: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Change of the weight and of the bias."""
        weight, bias = d.split([self.at[0].numel(), self.at[1].numel()])
        return weight.view_as(self.at[0]), bias

    def times(self, d: torch.Tensor) -> torch.Tensor:
        """J d"""
        dz = _apply(self.first, self.x, *self.split(d))
        (given,) = torch.autograd.grad(self.back, self.error, dz, retain_graph=True)
        return _apply(self.second, given, self.wanted, None)

    def transposed(self, error: torch.Tensor, free: bool) -> torch.Tensor:
        """J' error; zero for a bias that is not free."""
        weight, bias = torch.autograd.grad(self.made, self.at, error, retain_graph=True)
        return torch.cat([weight.flatten(), bias if free else torch.zeros_like(bias)])

    def solve(self, missed: torch.Tensor, ridge: float, free: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """The changes d with the least ||J d - missed||^2 + lambda ||d||^2, nearly."""
        r = self.transposed(missed, free)
        signs = torch.randint(0, 2, r.shape, generator=torch.Generator().manual_seed(0)).to(r) * 2 - 1
        pull = ridge * self.times(signs).square().sum() / len(r)  # the mean diagonal of J'J, estimated
        d, p, now = torch.zeros_like(r), r.clone(), r.square().sum()
        for _ in range(_ITERATIONS if now > 0 else 0):
            ahead = self.transposed(self.times(p), free) + pull * p
            step = now / (p * ahead).sum()
            d, r = d + step * p, r - step * ahead
            before, now = now, r.square().sum()
            p = r + now / before * p
        return self.split(d)
