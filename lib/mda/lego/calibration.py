"""The ways to make the scores of components comparable: the paper's, and two by a convex fit."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch.nn import functional as F

from ...fit.convex import minimise
from ...params.lego import Method
from .scaling import Scaling, winning_score

TOLERANCE = 1e-8  # on the gradient, whose entries are of the order of 1


def fit(method: Method, logits: torch.Tensor, labels: torch.Tensor, spans: Sequence[range], ridge: float) -> Scaling:
    """The scaling that a method finds on train images; arguments as in `convex`."""
    if method == "none":
        return Scaling.none(logits.shape[1])
    if method == "winning_score":
        return winning_score(logits, labels, spans)
    return convex(logits, labels, spans, method, ridge)


def convex(
    logits: torch.Tensor,
    labels: torch.Tensor,
    spans: Sequence[range],
    kind: Literal["temperature", "affine"],
    ridge: float,
) -> Scaling:
    """The scaling with the least cross-entropy over all assembled classes, plus a pull towards no scaling at all.

    logits [n, outputs], labels [n]: of train images; spans: the outputs of each component. temperature: one factor
    1 / T a component; affine: a factor and an offset an output. Factors are not negative. ridge: times the sum of
    squared distances from factors 1 and offsets 0; without it, separable images would have no optimum. Convex, solved
    by L-BFGS-B in float64. Differs from the paper, which multiplies by reciprocals of winning scores.
    """
    z, outputs = logits.double(), logits.shape[1]
    if kind == "temperature":
        group = torch.tensor([number for number, span in enumerate(spans) for _ in span])
        count, offsets = len(spans), 0
    else:
        group, count, offsets = torch.arange(outputs), outputs, outputs
    start = torch.cat([torch.ones(count), torch.zeros(offsets)]).double()

    def loss(theta: torch.Tensor) -> torch.Tensor:
        found = z * theta[:count][group] + (theta[count:] if offsets else 0.0)
        return F.cross_entropy(found, labels) + ridge * (theta - start).square().sum()

    bounds = [(0.0, None)] * count + [(None, None)] * offsets
    best = minimise(loss, start, bounds, gtol=TOLERANCE, ftol=0.0, maxiter=10_000, maxfun=100_000)
    shifts = best[count:].tolist() if offsets else [0.0] * outputs
    return Scaling(tuple(best[:count][group].tolist()), tuple(shifts))
