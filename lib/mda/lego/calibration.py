"""The ways to make the scores of components comparable: the paper's, and two by a convex fit."""

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch.nn import functional as F

from ...fit.convex import minimise
from ...network.scaling import Scaling
from ...params.lego import Method

TOLERANCE = 1e-8  # on the gradient, whose entries are of the order of 1


def fit(
    method: Method,
    logits: Float[torch.Tensor, "n outputs"],
    labels: Int64[torch.Tensor, " n"],
    spans: Sequence[range],
    ridge: float,
) -> Scaling:
    """The scaling that a method finds on train images; arguments as in `convex`."""
    if method == "none":
        return Scaling.none(logits.shape[1])
    if method == "winning_score":
        return winning_score(logits, labels, spans)
    return convex(logits, labels, spans, method, ridge)


def convex(
    logits: Float[torch.Tensor, "n outputs"],
    labels: Int64[torch.Tensor, " n"],
    spans: Sequence[range],
    kind: Literal["temperature", "affine"],
    ridge: float,
) -> Scaling:
    """The scaling with the least cross-entropy over all assembled classes, plus a pull towards no scaling at all.

    logits, labels: [n, outputs] and [n], of train images.
    spans: the outputs of each component.
    kind: temperature, one factor 1 / T a component; affine, a factor and an offset an output. Factors are not negative.
    ridge: times the sum of squared distances from factors 1 and offsets 0; without it, separable images would have no
        optimum.

    Convex, solved by L-BFGS-B in float64. Differs from the paper, which multiplies by reciprocals of winning scores.
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


def winning_scores(logits: Float[torch.Tensor, "n k"], labels: Int64[torch.Tensor, " n"]) -> list[float | None]:
    """For each output, the mean logit of its own images that are classified correctly; None where there are none.

    logits [n, k], labels [n]: train images of the component's classes. Differs from the paper's code, which measures
    them on test images.
    """
    right = logits.argmax(1) == labels
    scores = logits.gather(1, labels[:, None])[:, 0].double()
    found: list[float | None] = []
    for c in range(logits.shape[1]):
        own = scores[right & (labels == c)]
        found.append(own.mean().item() if len(own) else None)
    return found


def factors(scores: Sequence[float | None]) -> list[float]:
    """What each output of one component is multiplied by: the reciprocal of its mean winning score.

    Differs from the paper, which says nothing on classes without correct images and on scores that are not positive,
    where a reciprocal would blow up or turn the order of the answers round: such a class takes the mean factor of its
    component's other classes, 1 where there are none.
    """
    found = [1 / score if score is not None and score > 0 else None for score in scores]
    known = [factor for factor in found if factor is not None]
    instead = sum(known) / len(known) if known else 1.0
    return [instead if factor is None else factor for factor in found]


def winning_score(
    logits: Float[torch.Tensor, "n outputs"], labels: Int64[torch.Tensor, " n"], spans: Sequence[range]
) -> Scaling:
    """`factors` of several components side by side, each from its own images and its own outputs.

    logits [n, outputs], labels [n]: of train images; spans: the outputs of each component.
    """
    found: list[float] = []
    for span in spans:
        rows = (labels >= span.start) & (labels < span.stop)
        found += factors(winning_scores(logits[rows, span.start : span.stop], labels[rows] - span.start))
    return Scaling(tuple(found), (0.0,) * len(found))
