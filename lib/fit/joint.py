"""Layers of a repair that follow each other, fitted together: the first for what its readers can make of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import nn

from .layer import Goal, channels_first, refit

_ITERATIONS = 10  # of conjugate gradients
_ROWS = 2**13  # most rows of a regression here


@dataclass(frozen=True)
class Reader:
    """A convolution or linear layer that reads what another makes. goal: what it should make; free: whether it may have
    a bias.
    """

    layer: Any
    goal: Goal
    free: bool


def improve(
    x: Float[torch.Tensor, "n C ..."],
    first: Any,
    between: Callable[[torch.Tensor], Sequence[torch.Tensor]],
    readers: Sequence[Reader],
    ridge: float,
    free: bool,
    steps: int,
    rounds: int,
) -> tuple[Float[torch.Tensor, "O ..."], Float[torch.Tensor, " O"]]:
    """The weight of `first` and its bias [O], even if it has none, with which its readers come nearer to their goals.

    x: what `first`, a convolution or linear layer, is given.
    between: what its output becomes before each reader.
    free: whether its bias is.

    A round fits the readers (see `lib.fit.layer.refit`) and then takes a Gauss-Newton step on `first`: least squares of
    what they miss, in standard deviations of their goals where there are several, linear in the change of the weights,
    which costs `ridge` times the mean diagonal; by conjugate gradients. Readers are left as they were.
    """
    weight = first.weight.detach().clone()
    bias = weight.new_zeros(len(weight)) if first.bias is None else first.bias.detach()
    units = [1.0 if len(readers) == 1 else float(1 / own.goal.target.std().clamp_min(1e-12)) for own in readers]
    for _ in range(rounds):
        missed, wanted = list[torch.Tensor](), list[torch.Tensor]()
        for x_own, own, unit in zip(between(_apply(first, x, weight, bias)), readers, units, strict=True):
            given = channels_first(x_own, own.layer)
            by, offset = refit(given, own.goal, own.layer, ridge, own.free, steps, _ROWS)
            made = channels_first(_apply(own.layer, x_own, by, offset), own.layer)
            miss = missed_by(own.goal, made) * unit
            missed.append(miss.movedim(1, -1) if made.ndim > 2 and isinstance(own.layer, nn.Linear) else miss)
            wanted.append(by * unit)
        tangent = Tangent(x, first, between, [own.layer for own in readers], wanted, weight, bias)
        change = tangent.solve(missed, ridge, free)
        weight, bias = weight + change[0], bias + change[1]
    return weight, bias


def _apply(layer: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    if isinstance(layer, nn.Linear):
        return F.linear(x, weight, bias)
    if layer.padding_mode != "zeros":
        x = F.pad(x, layer._reversed_padding_repeated_twice, mode=layer.padding_mode)
        return F.conv2d(x, weight, bias, layer.stride, 0, layer.dilation, layer.groups)
    return F.conv2d(x, weight, bias, layer.stride, layer.padding, layer.dilation, layer.groups)


def missed_by(goal: Goal, made: torch.Tensor) -> torch.Tensor:
    """Goal minus what is made; nothing where both lie below the floor."""
    target = goal.target
    if goal.floor is not None and goal.sign is not None:
        sign = goal.sign.view(1, -1, *[1] * (made.ndim - 2))
        target, floor = target * sign, goal.floor * sign
        target = torch.where(target > floor, target, torch.minimum(made * sign, floor)) * sign
    return target - made


class Tangent:
    """What readers, of the weights `wanted`, make of small changes of the weight and bias of `first`: J d."""

    def __init__(
        self,
        x: torch.Tensor,
        first: Any,
        between: Callable[[torch.Tensor], Sequence[torch.Tensor]],
        readers: Sequence[Any],
        wanted: Sequence[torch.Tensor],
        weight: torch.Tensor,
        bias: torch.Tensor,
    ):
        self.x, self.first, self.readers, self.wanted = x, first, readers, wanted
        with torch.enable_grad():
            self.at = weight.clone().requires_grad_(), bias.clone().requires_grad_()
            z = _apply(first, x, *self.at)
            given = between(z)
            self.made = [_apply(own, u, by, None) for own, u, by in zip(readers, given, wanted, strict=True)]
            # the derivative of `between` is the transpose of what takes errors back through it, which is linear
            self.errors = [torch.zeros_like(u, requires_grad=True) for u in given]
            (self.back,) = torch.autograd.grad(given, z, self.errors, create_graph=True)

    def split(self, d: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Change of the weight and of the bias."""
        weight, bias = d.split([self.at[0].numel(), self.at[1].numel()])
        return weight.view_as(self.at[0]), bias

    def times(self, d: torch.Tensor) -> list[torch.Tensor]:
        """J d: what the readers make of the change d."""
        dz = _apply(self.first, self.x, *self.split(d))
        given = torch.autograd.grad(self.back, self.errors, dz, retain_graph=True)
        return [_apply(own, u, by, None) for own, u, by in zip(self.readers, given, self.wanted, strict=True)]

    def transposed(self, errors: Sequence[torch.Tensor], free: bool) -> torch.Tensor:
        """J' errors; zero for a bias that is not free."""
        weight, bias = torch.autograd.grad(self.made, self.at, errors, retain_graph=True)
        return torch.cat([weight.flatten(), bias if free else torch.zeros_like(bias)])

    def solve(self, missed: Sequence[torch.Tensor], ridge: float, free: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """The changes d with the least ||J d - missed||^2 + lambda ||d||^2, nearly."""
        r = self.transposed(missed, free)
        signs = torch.randint(0, 2, r.shape, generator=torch.Generator().manual_seed(0)).to(r) * 2 - 1
        squares = sum(float(made.square().sum()) for made in self.times(signs))
        pull = ridge * squares / len(r)  # of the mean diagonal of J'J, estimated
        d, p, now = torch.zeros_like(r), r.clone(), r.square().sum()
        for _ in range(_ITERATIONS):
            ahead = self.transposed(self.times(p), free) + pull * p
            if not (curvature := (p * ahead).sum()) > 0:  # nothing is left to gain, or no reader sees a change
                break
            step = now / curvature
            d, r = d + step * p, r - step * ahead
            before, now = now, r.square().sum()
            p = r + now / before * p
        return self.split(d)
