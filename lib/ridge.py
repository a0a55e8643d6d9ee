"""Ridge regression in closed form, from sums that grow batch by batch."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch


class NormalEquations:
    """Sums of a linear regression Y ~ X W + b, in float64: X [n, p], Y [n, q] arrive in batches of rows."""

    def __init__(self, inputs: int, outputs: int):
        self.count = 0
        self._again = False
        self._xx = torch.zeros(inputs, inputs, dtype=torch.float64)
        self._xy = torch.zeros(inputs, outputs, dtype=torch.float64)
        self._yy = torch.zeros(outputs, dtype=torch.float64)
        self._x = torch.zeros(inputs, dtype=torch.float64)
        self._y = torch.zeros(outputs, dtype=torch.float64)

    def add(self, x: torch.Tensor, y: torch.Tensor) -> None:
        """Adds rows; products within a batch are taken in the tensors' own precision, but in float64 where a batch has
        fewer rows than X has columns: rounding, where means are large, would outweigh a ridge that must hold.
        """
        if len(x) < x.shape[1]:
            x, y = x.double(), y.double()
        if not self._again:
            self.count += len(x)
            self._xx += (x.T @ x).double()
            self._x += x.double().sum(0)
        self._xy += (x.T @ y).double()
        self._yy += y.double().square().sum(0)
        self._y += y.double().sum(0)

    def forget_targets(self) -> None:
        """From here on, the same rows of X come again, with others of Y."""
        self._again = True
        for sums in (self._xy, self._yy, self._y):
            sums.zero_()

    def solve(self, ridge: float, towards: torch.Tensor | None = None, intercept: bool = True) -> "Fit":
        """Least squares with a penalty on W of `ridge` times the mean diagonal of the centred X'X; b is free.

        The penalty is on the difference to the weights `towards` [p, q], where given. Without an `intercept` b is zero
        and nothing is centred.
        """
        mean_x, mean_y = self._x / self.count, self._y / self.count
        xx, xy, tss = self._centred() if intercept else (self._xx, self._xy, self._yy)
        given = torch.zeros_like(xy) if towards is None else towards.double()
        weight = given + torch.linalg.solve(xx + _penalty(xx, ridge), xy - xx @ given)
        fitted = (weight * (xx @ weight)).sum(0)
        rss = (tss - 2 * (weight * xy).sum(0) + fitted).sum()
        r2 = 1 - float(rss / tss.sum()) if tss.sum() > 0 else 1.0
        bias = mean_y - mean_x @ weight if intercept else torch.zeros_like(mean_y)
        return Fit(weight.float(), bias.float(), r2)

    @torch.no_grad()
    def match(self, weight: torch.Tensor) -> "Fit":
        """W = `weight` [p, q] with each output scaled and moved so that its mean and variance are those of Y.

        An output that is constant over X stays so. Least squares, above all, shrinks variances.
        """
        weight = weight.double()
        xx, _, tss = self._centred()
        fitted = (weight * (xx @ weight)).sum(0)
        weight = weight * torch.where(fitted > 0, (tss / fitted).sqrt(), 1.0)
        fit = Fit(weight.float(), ((self._y - self._x @ weight) / self.count).float(), 0.0)
        return replace(fit, r2=self.explained(fit))

    def explained(self, fit: "Fit") -> float:
        """R^2 of a given fit on these rows, over all outputs; at most 1, negative where the mean of Y is better."""
        weight, bias = fit.weight.double(), fit.bias.double()
        xx, xy, tss = self._centred()
        offset = (self._x @ weight - self._y) / self.count + bias
        rss = tss - 2 * (weight * xy).sum(0) + (weight * (xx @ weight)).sum(0) + self.count * offset.square()
        return 1 - float(rss.sum() / tss.sum()) if tss.sum() > 0 else 1.0

    def __add__(self, other: "NormalEquations") -> "NormalEquations":
        """Those of all rows of both."""
        total = NormalEquations(len(self._x), len(self._y))
        for name in ("count", "_xx", "_xy", "_yy", "_x", "_y"):
            setattr(total, name, getattr(self, name) + getattr(other, name))
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

    def _centred(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """X'X, X'Y and the diagonal of Y'Y, of centred columns."""
        mean_x, mean_y = self._x / self.count, self._y / self.count
        xx = self._xx - self.count * torch.outer(mean_x, mean_x)
        xy = self._xy - self.count * torch.outer(mean_x, mean_y)
        return xx, xy, (self._yy - self.count * mean_y.square()).clamp_min(0)


def _penalty(xx: torch.Tensor, ridge: float) -> torch.Tensor:
    return ridge * xx.diagonal().mean().clamp_min(1e-12) * torch.eye(len(xx), dtype=xx.dtype)


@dataclass(frozen=True)
class Fit:
    """weight: W [p, q]; bias: b [q]; r2: 1 - sum RSS / sum TSS over all outputs."""

    weight: torch.Tensor
    bias: torch.Tensor
    r2: float
