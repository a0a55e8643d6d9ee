"""Ridge regression in closed form, from sums that grow batch by batch."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Float32

from .batchnorm import Moments
from .exact import exact, home

HALVED = 1024  # columns of X from which on X'X is multiplied in blocks, those below its diagonal left out
BLOCKS = 8


class NormalEquations:
    """Sums of a linear regression Y ~ X W + b, in float64: X [n, p], Y [n, q] arrive in batches of rows.

    They are kept of the differences to the means of the first batch: products in the tensors' own precision would lose
    what varies beside large means. They are where the rows are, or on the CPU where those are on a device without
    float64.
    """

    def __init__(self, inputs: int, outputs: int):
        self.count = 0
        self._again = False
        self._factors: tuple[tuple[float, bool], tuple[torch.Tensor, torch.Tensor]] | None = None  # of the last `solve`
        self._xx = torch.zeros(inputs, inputs, dtype=torch.float64)
        self._xy = torch.zeros(inputs, outputs, dtype=torch.float64)
        self._yy = torch.zeros(outputs, dtype=torch.float64)
        self._x = torch.zeros(inputs, dtype=torch.float64)
        self._y = torch.zeros(outputs, dtype=torch.float64)
        self._about = torch.zeros_like(self._x), torch.zeros_like(self._y)

    def add(self, x: Float[torch.Tensor, "n p"], y: Float[torch.Tensor, "n q"]) -> None:
        """Adds rows; products within a batch are taken in the tensors' own precision, but in float64 where a batch has
        fewer rows than X has columns: rounding would outweigh a ridge that must hold.
        """
        if not len(x):
            return
        x, y = x.to(home(x.device)), y.to(home(y.device))
        if len(x) < x.shape[1]:
            x, y = x.double(), y.double()
        if not self.count:
            self._begin(x, y)
        x, y = x - self._about[0].to(x.dtype), y - self._about[1].to(y.dtype)
        if not self._again:
            self._factors = None
            self.count += len(x)
            self._xx += _gram(x).double()
            self._x += x.sum(0, dtype=torch.float64)
        self._xy += (x.T @ y).double()
        self._yy += y.square().sum(0, dtype=torch.float64)
        self._y += y.sum(0, dtype=torch.float64)

    def _begin(self, x: torch.Tensor, y: torch.Tensor) -> None:
        """Takes the sums to where the rows are, and the means of these first ones for the point that they are about."""
        sums = self._xx, self._xy, self._yy, self._x, self._y
        self._xx, self._xy, self._yy, self._x, self._y = (own.to(x.device) for own in sums)
        self._about = tuple(own.mean(0, dtype=torch.float64).float().double() for own in (x, y))

    def forget_targets(self) -> None:
        """Drops the sums of Y: from here on, the same rows of X come again with other targets."""
        self._again = True
        for sums in (self._xy, self._yy, self._y):
            sums.zero_()

    def solve(self, ridge: float, towards: Float[torch.Tensor, "p q"] | None = None, intercept: bool = True) -> "Fit":
        """Least squares with a penalty on W of `ridge` times the mean diagonal of the centred X'X; b is free.

        The penalty is on the difference to the weights `towards` [p, q], where given. Without an `intercept` b is zero
        and nothing is centred. What does not depend on Y is done once for all that `forget_targets` lets follow.
        """
        mean_x, mean_y = self._means()
        xx, xy, tss = self._centred() if intercept else self._raw()
        given = torch.zeros_like(xy) if towards is None else exact(towards).to(xy.device)
        if self._factors is None or self._factors[0] != (ridge, intercept):
            self._factors = (ridge, intercept), torch.linalg.lu_factor(xx + _penalty(xx, ridge))
        weight = given + torch.linalg.lu_solve(*self._factors[1], xy - xx @ given)
        fitted = (weight * (xx @ weight)).sum(0)
        rss = (tss - 2 * (weight * xy).sum(0) + fitted).sum()
        r2 = 1 - float(rss / tss.sum()) if tss.sum() > 0 else 1.0
        bias = mean_y - mean_x @ weight if intercept else torch.zeros_like(mean_y)
        return Fit(weight.float(), bias.float(), r2)

    @torch.no_grad()
    def match(self, weight: Float[torch.Tensor, "p q"]) -> "Fit":
        """W = `weight` [p, q] with each output scaled and moved so that its mean and variance are those of Y.

        An output that is constant over X stays so. Least squares, above all, shrinks variances.
        """
        weight = exact(weight).to(self._xx.device)
        xx, _, tss = self._centred()
        fitted = (weight * (xx @ weight)).sum(0)
        weight = weight * torch.where(fitted > 0, (tss / fitted).sqrt(), 1.0)
        mean_x, mean_y = self._means()
        fit = Fit(weight.float(), (mean_y - mean_x @ weight).float(), 0.0)
        return replace(fit, r2=self.explained(fit))

    def explained(self, fit: "Fit") -> float:
        """R^2 of a given fit on these rows, over all outputs; at most 1, negative where the mean of Y is better."""
        weight, bias = (exact(own).to(self._xx.device) for own in (fit.weight, fit.bias))
        xx, xy, tss = self._centred()
        mean_x, mean_y = self._means()
        offset = mean_x @ weight - mean_y + bias
        rss = tss - 2 * (weight * xy).sum(0) + (weight * (xx @ weight)).sum(0) + self.count * offset.square()
        return 1 - float(rss.sum() / tss.sum()) if tss.sum() > 0 else 1.0

    def made(self, fit: "Fit") -> Moments:
        """Mean and variance of each output that a given fit makes of these rows."""
        weight, bias = (exact(own).to(self._xx.device) for own in (fit.weight, fit.bias))
        xx, _, _ = self._centred()
        return Moments(self.count, self._means()[0] @ weight + bias, (weight * (xx @ weight)).sum(0) / self.count)

    def __add__(self, other: "NormalEquations") -> "NormalEquations":
        """Those of all rows of both."""
        if not self.count or not other.count:
            return deepcopy(self if self.count else other)
        total = NormalEquations(len(self._x), len(self._y))
        total.count, total._about = self.count + other.count, self._about
        own, others = self._moved(*total._about), other._moved(*total._about)
        total._xx, total._xy, total._yy, total._x, total._y = (a + b for a, b in zip(own, others, strict=True))
        return total

    def r2(self, ridge: float, sizes: Sequence[int]) -> list[float]:
        """R^2 of several regressions on the same X, whose outputs stand side by side in Y: `sizes` columns each.

        One Cholesky factorization serves all of them; each is the `r2` of a fit of its own.
        """
        xx, xy, tss = self._centred()
        penalty = _penalty(xx, ridge)
        weight = torch.cholesky_solve(xy, torch.linalg.cholesky(xx + penalty))
        explained = (weight * xy).sum(0) + penalty[0, 0] * weight.square().sum(0)  # tss - rss, as (xx + penalty) W = xy
        parts = zip(explained.split(list(sizes)), tss.split(list(sizes)), strict=True)
        return [float(own.sum() / total.sum()) if total.sum() > 0 else 1.0 for own, total in parts]

    def _moved(self, x: torch.Tensor | float, y: torch.Tensor | float) -> tuple[torch.Tensor, ...]:
        """The sums xx, xy, yy, x, y of the differences to x [p] and y [q] instead."""
        dx, dy = self._about[0] - x, self._about[1] - y
        xx = self._xx + torch.outer(self._x, dx) + torch.outer(dx, self._x) + self.count * torch.outer(dx, dx)
        xy = self._xy + torch.outer(self._x, dy) + torch.outer(dx, self._y) + self.count * torch.outer(dx, dy)
        yy = self._yy + 2 * dy * self._y + self.count * dy.square()
        return xx, xy, yy, self._x + self.count * dx, self._y + self.count * dy

    def _means(self) -> tuple[torch.Tensor, torch.Tensor]:
        return self._about[0] + self._x / self.count, self._about[1] + self._y / self.count

    def _raw(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """X'X, X'Y and the diagonal of Y'Y."""
        xx, xy, yy, _, _ = self._moved(0.0, 0.0)
        return xx, xy, yy

    def _centred(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The same of centred columns."""
        x, y = self._x / self.count, self._y / self.count
        xx = self._xx - self.count * torch.outer(x, x)
        xy = self._xy - self.count * torch.outer(x, y)
        return xx, xy, (self._yy - self.count * y.square()).clamp_min(0)


def _penalty(xx: torch.Tensor, ridge: float) -> torch.Tensor:
    return ridge * xx.diagonal().mean().clamp_min(1e-12) * torch.eye(len(xx), dtype=xx.dtype, device=xx.device)


def _gram(x: torch.Tensor) -> torch.Tensor:
    """X'X of the rows of x [n, p]: [p, p]."""
    count = x.shape[1]
    if count < HALVED:
        return x.T @ x
    found, ends = x.new_empty(count, count), [count * i // BLOCKS for i in range(BLOCKS + 1)]
    for first, last in zip(ends, ends[1:], strict=False):
        torch.matmul(x[:, first:last].T, x[:, first:], out=found[first:last, first:])
        found[last:, first:last] = found[first:last, last:].T
    return found


@dataclass(frozen=True)
class Fit:
    """A fitted regression Y ~ X W + b.

    weight: W [p, q].
    bias: b [q]. r2: 1 - sum RSS / sum TSS over all outputs.
    """

    weight: Float32[torch.Tensor, "p q"]
    bias: Float32[torch.Tensor, " q"]
    r2: float
