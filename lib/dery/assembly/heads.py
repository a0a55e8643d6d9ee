"""Heads in closed form: a linear layer on pooled features, for a task that the last source does not know."""

from collections.abc import Iterable
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64

from ...base.errors import BrickyardError
from ...chain.layout import Layout
from ...fit.exact import exact
from ...images.data import Batch
from ...network.modules import LinearHead

Method = Literal["ridge", "lda"]
CALIBRATION = 2048  # images whose features are kept for the temperature


class HeadEquations:
    """What both methods need to know of features [n, p] and labels [n]: counts, sums and products, in float64.

    Memory does not grow with n.
    """

    def __init__(self, features: int, num_classes: int):
        self._counts = torch.zeros(num_classes, dtype=torch.float64)
        self._sums = torch.zeros(num_classes, features, dtype=torch.float64)
        self._products = torch.zeros(features, features, dtype=torch.float64)

    def add(self, x: Float[torch.Tensor, "b p"], y: Int64[torch.Tensor, " b"]) -> None:
        """Features [b, p] with their labels [b]."""
        x = exact(x).cpu()
        self._counts += torch.bincount(y, minlength=len(self._counts))
        self._sums.index_add_(0, y, x)
        self._products += x.T @ x

    def solve(
        self, method: Method, shrinkage: float
    ) -> tuple[Float64[torch.Tensor, "classes p"], Float64[torch.Tensor, " classes"]]:
        """weight [classes, p] and bias [classes] of the logits, in float64.

        Raises BrickyardError for a class without images.
        """
        if not (self._counts > 0).all():
            missing = int((self._counts == 0).nonzero()[0])
            raise BrickyardError(f"a head in closed form needs images of every class; class {missing} has none")
        return {"ridge": self._ridge, "lda": self._lda}[method](shrinkage)

    def _ridge(self, shrinkage: float) -> tuple[torch.Tensor, torch.Tensor]:
        """Ridge regression of one-hot labels, penalty `shrinkage` times the mean diagonal of the centred X'X."""
        n = self._counts.sum()
        mean, shares = self._sums.sum(0) / n, self._counts / n
        total = self._products - n * torch.outer(mean, mean)
        towards = self._sums - torch.outer(self._counts, mean)
        weight = torch.linalg.solve(total + shrinkage * _mean_diagonal(total), towards.T).T
        return weight, shares - weight @ mean

    def _lda(self, shrinkage: float) -> tuple[torch.Tensor, torch.Tensor]:
        """Linear discriminant analysis: Gaussian classes with one covariance, which is shrunk towards its mean diagonal
        by `shrinkage` in [0, 1]; the classes' shares are their priors.
        """
        n, means = self._counts.sum(), self._sums / self._counts[:, None]
        within = (self._products - means.T @ self._sums) / n
        covariance = (1 - shrinkage) * within + shrinkage * _mean_diagonal(within)
        weight = torch.linalg.solve(covariance, means.T).T
        return weight, (self._counts / n).log() - (weight * means).sum(1) / 2


def _mean_diagonal(matrix: torch.Tensor) -> torch.Tensor:
    return matrix.diagonal().mean().clamp_min(1e-12) * torch.eye(len(matrix), dtype=matrix.dtype)


@torch.no_grad()
def fit_head(
    layout: Layout, batches: Iterable[Batch], num_classes: int, method: Method, shrinkage: float
) -> LinearHead:
    """A linear head on pooled features in one pass over `batches` of (activation, label); nothing is trained.

    The logits are scaled so that their cross-entropy is least on a random sample of the same images, CALIBRATION at
    most; that moves no argmax. It is where the activations are. Differs from the paper: its heads begin random.
    """
    equations = HeadEquations(layout.channels, num_classes)
    sample, device = _Sample(CALIBRATION), torch.device("cpu")
    for x, y in batches:
        pooled, device = layout.pool(x).cpu(), x.device
        equations.add(pooled, y)
        sample.add(pooled, y)
    weight, bias = equations.solve(method, shrinkage)
    features, labels = sample.rows
    scale = _temperature(features.double() @ weight.T + bias, labels)
    head = LinearHead(layout, num_classes)
    head.weight.copy_(scale * weight)
    head.bias.copy_(scale * bias)
    return head.to(device)


class _Sample:
    """At most `size` rows, each as likely as any other, whatever the order and the batches they come in."""

    def __init__(self, size: int):
        self._size, self._generator = size, np.random.default_rng(0)
        self._keys, self._kept = np.empty(0), list[Batch]()

    def add(self, x: torch.Tensor, y: torch.Tensor) -> None:
        """The rows with the smallest random keys stay."""
        self._keys = np.concatenate([self._keys, self._generator.random(len(y))])
        self._kept.append((x, y))
        if len(self._keys) > 2 * self._size:
            self._kept = [self.rows]
            self._keys = self._keys[self._order()]

    @property
    def rows(self) -> Batch:
        """Features [m, p] and labels [m]."""
        features, labels = (torch.cat(parts) for parts in zip(*self._kept, strict=True))
        order = torch.from_numpy(self._order())
        return features[order], labels[order]

    def _order(self) -> np.ndarray:
        return np.sort(np.argsort(self._keys, kind="stable")[: self._size])


def _temperature(logits: torch.Tensor, labels: torch.Tensor) -> float:
    """The factor on `logits` [n, classes] with the least cross-entropy (convex in it), by bisection on its slope."""
    low, high = 0.0, 100.0
    for _ in range(40):
        middle = (low + high) / 2
        expected = (torch.softmax(middle * logits, 1) * logits).sum(1)
        slope = float((expected - logits.gather(1, labels[:, None])[:, 0]).mean())
        low, high = (low, middle) if slope > 0 else (middle, high)
    return (low + high) / 2
