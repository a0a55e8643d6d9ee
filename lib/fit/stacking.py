"""Stacking (Wolpert 1992): the linear map from what several networks answer to the classes, from labelled images.

Ours, not in the papers: a tree's logits are else their mean.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch.nn import functional as F

from .convex import minimise

ITERATIONS, TOLERANCE = 200, 1e-6  # the latter relative, on the loss: accuracies of 10,000 images move by 0.05 points
SHRINKAGE = 1e-3  # of a covariance, which is singular: the logits of a network add up to 0


@dataclass(frozen=True, eq=False)
class Stacked:
    """Logits [n, c] = sum over t of logits_t [n, c] @ maps[t] + offset.

    maps: [t, c, c].
    offset: [c].
    images: how many have fitted them.
    prior: see `stack`.
    """

    maps: Float64[torch.Tensor, "t c c"]
    offset: Float64[torch.Tensor, " c"]
    images: int
    prior: float

    @property
    def ridge(self) -> float:
        """The pull towards the mean beside the mean loss of an image."""
        return self.prior / self.images

    def __call__(self, logits: Float[torch.Tensor, "t n c"]) -> Float[torch.Tensor, "n c"]:
        """What networks answer together."""
        found = torch.einsum("tnc,tcd->nd", logits.double(), self.maps) + self.offset
        return found.to(logits.dtype)


def stack(logits: Float[torch.Tensor, "t n c"], labels: Int64[torch.Tensor, " n"], prior: float) -> Stacked:
    """The maps with the least cross-entropy on labelled images, pulled towards the mean of the logits, the less the
    more images there are.

    logits: of t networks, [t, n, c]; of each only differences between classes count.
    labels: [n].
    prior: times the mean square of the logits and the squared distance of the maps from 1 / t times the identity: a
        loss beside the sum of those of the images, as from a normal prior on the maps.

    Convex, solved by L-BFGS in float64.
    """
    given = logits.double() - logits.double().mean(2, keepdim=True)
    t, _, c = given.shape
    features = given.transpose(0, 1).flatten(1)
    start = (torch.eye(c, dtype=torch.float64) / t).repeat(t, 1)
    pull = prior / len(labels) * float(given.square().mean())

    def loss(theta: torch.Tensor) -> torch.Tensor:
        maps, offset = theta[:-c].view_as(start), theta[-c:]
        return F.cross_entropy(features @ maps + offset, labels) + pull * (maps - start).square().sum()

    first = torch.cat([start.flatten(), torch.zeros(c, dtype=torch.float64)])
    best = minimise(loss, first, maxiter=ITERATIONS, ftol=TOLERANCE)
    maps = best[:-c].view(t, c, c)
    return Stacked(maps - maps.mean(1, keepdim=True), best[-c:], len(labels), prior)


def out_of_fold(
    logits: Float[torch.Tensor, "t n c"], labels: Int64[torch.Tensor, " n"], prior: float
) -> Float[torch.Tensor, "n c"]:
    """What the networks stacked answer for each image by maps that the other half of the images has given."""
    first, second = folds(labels)
    found = torch.empty_like(logits[0])
    for own, others in ((first, second), (second, first)):
        found[own] = stack(logits[:, others], labels[others], prior)(logits[:, own])
    return found


def folds(labels: Int64[torch.Tensor, " n"]) -> tuple[Int64[torch.Tensor, " a"], Int64[torch.Tensor, " b"]]:
    """Two halves of the images, class by class."""
    order = labels.argsort(stable=True)
    return order[0::2], order[1::2]


class Discriminants:
    """Nearly `out_of_fold` at a thousandth of the time, for one set of networks after another: linear discriminant
    analysis of the logits instead. A class without images in a half is not answered by what that gives.

    logits: of every network, [n, c] each.
    labels: [n].
    """

    def __init__(self, logits: Sequence[Float[torch.Tensor, "n c"]], labels: Int64[torch.Tensor, " n"]) -> None:
        given = [(one.double() - one.double().mean(1, keepdim=True)).numpy() for one in logits]
        halves = [half.numpy() for half in folds(labels)]
        self._features = [[one[half] for one in given] for half in halves]
        self._labels = [labels.numpy()[half] for half in halves]
        classes = np.arange(given[0].shape[1])
        self._indicators = [(own[:, None] == classes).astype(np.float64) for own in self._labels]

    def accuracy(self, networks: Sequence[int]) -> float:
        """Of some of the networks together, in percent; each half of the images is answered by what the other fits."""
        features = [np.concatenate([own[i] for i in networks], 1) for own in self._features]
        maps = [_discriminant(x, own) for x, own in zip(features, self._indicators, strict=True)]
        said = [x @ weight + bias for x, (weight, bias) in zip(features, reversed(maps), strict=True)]
        right = sum(int((y.argmax(1) == own).sum()) for y, own in zip(said, self._labels, strict=True))
        return 100 * right / sum(map(len, self._labels))


def _discriminant(
    x: Float64[np.ndarray, "n p"], indicators: Float64[np.ndarray, "n c"]
) -> tuple[Float64[np.ndarray, "p c"], Float64[np.ndarray, " c"]]:
    """Weight and bias of the classes' logits; the covariance within classes is shrunk a little."""
    counts = indicators.sum(0)
    sums = indicators.T @ x
    means = sums / np.maximum(counts, 1)[:, None]
    covariance = (x.T @ x - means.T @ sums) / len(x)
    covariance += SHRINKAGE * max(float(np.trace(covariance)) / len(covariance), 1e-12) * np.eye(len(covariance))
    weight = np.linalg.solve(covariance, means.T)
    with np.errstate(divide="ignore"):
        return weight, np.log(counts / len(x)) - (means.T * weight).sum(0) / 2
