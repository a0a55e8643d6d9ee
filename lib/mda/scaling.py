"""Parameter scaling: making the scores of components comparable without training (MDA, section 3.2)."""

import copy
from collections.abc import Sequence

import torch
from torch import nn


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


def all_factors(logits: torch.Tensor, labels: torch.Tensor, spans: Sequence[range]) -> list[float]:
    """`factors` of several components side by side, each from its own images and its own outputs.

    logits [n, outputs], labels [n]: of train images; spans: the outputs of each component.
    """
    found: list[float] = []
    for span in spans:
        rows = (labels >= span.start) & (labels < span.stop)
        found += factors(winning_scores(logits[rows, span.start : span.stop], labels[rows] - span.start))
    return found


def scale(model: nn.Module, classifier: str, factors: Sequence[float]) -> nn.Module:
    """A copy of `model` whose logits [n, k] are multiplied by factors [k]: weights and bias of layer `classifier`."""
    model = copy.deepcopy(model)
    layer = model.get_submodule(classifier)
    with torch.no_grad():
        for parameter in layer.parameters(recurse=False):
            by = torch.tensor(factors, dtype=parameter.dtype, device=parameter.device)
            parameter.mul_(by.view(-1, *[1] * (parameter.ndim - 1)))
    return model
