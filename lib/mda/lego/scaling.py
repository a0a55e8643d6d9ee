"""Parameter scaling: making the scores of components comparable without training (MDA, section 3.2)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn


@dataclass(frozen=True)
class Scaling:
    """What is done to each output of an assembly: times its factor, plus its offset."""

    factors: tuple[float, ...]
    offsets: tuple[float, ...]

    @classmethod
    def none(cls, outputs: int) -> "Scaling":
        """Outputs as they are."""
        return cls((1.0,) * outputs, (0.0,) * outputs)

    def of(self, span: range) -> "Scaling":
        """That of some outputs alone."""
        return Scaling(self.factors[span.start : span.stop], self.offsets[span.start : span.stop])

    def then(self, later: "Scaling") -> "Scaling":
        """This scaling and, on what it gives, a later one, as one."""
        triples = zip(self.offsets, later.factors, later.offsets, strict=True)
        factors = tuple(a * b for a, b in zip(self.factors, later.factors, strict=True))
        return Scaling(factors, tuple(offset * factor + shift for offset, factor, shift in triples))

    def __call__(self, logits: torch.Tensor) -> torch.Tensor:
        """Logits [n, outputs], scaled."""
        return logits * logits.new_tensor(self.factors) + logits.new_tensor(self.offsets)


def winning_scores(logits: torch.Tensor, labels: torch.Tensor) -> list[float | None]:
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


def winning_score(logits: torch.Tensor, labels: torch.Tensor, spans: Sequence[range]) -> Scaling:
    """`factors` of several components side by side, each from its own images and its own outputs.

    logits [n, outputs], labels [n]: of train images; spans: the outputs of each component.
    """
    found: list[float] = []
    for span in spans:
        rows = (labels >= span.start) & (labels < span.stop)
        found += factors(winning_scores(logits[rows, span.start : span.stop], labels[rows] - span.start))
    return Scaling(tuple(found), (0.0,) * len(found))


def fold(layer: Any, by: Scaling) -> None:
    """Puts a scaling into the weights and biases of the layer that gives the logits, biases that it lacks included."""
    factors, offsets = (torch.tensor(values, dtype=layer.weight.dtype) for values in (by.factors, by.offsets))
    factors, offsets = factors.to(layer.weight.device), offsets.to(layer.weight.device)
    with torch.no_grad():
        layer.weight.mul_(factors.view(-1, *[1] * (layer.weight.ndim - 1)))
        if layer.bias is not None:
            layer.bias.mul_(factors).add_(offsets)
        elif offsets.any():
            layer.bias = nn.Parameter(offsets)
