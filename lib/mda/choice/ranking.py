"""How right networks are, whole ones alone and components side by side, from what they say to images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float

from ...params.lego import Method
from .. import accuracies
from ..lego import calibration


@dataclass(frozen=True)
class Answers:
    """What networks, or their components, say to the images of a split that are of the wanted classes.

    logits: network -> [images, outputs].
    classes: network -> names of its outputs.
    labels: names, one an image.
    """

    logits: Mapping[str, Float[torch.Tensor, "n _"]]
    classes: Mapping[str, Sequence[str]]
    labels: Sequence[str]

    def of(self, tasks: Mapping[str, Sequence[str]]) -> accuracies.Answers:
        """Logits of a choice [images, wanted classes] in the order of its tasks, and labels as positions in them."""
        columns = [
            self.logits[name][:, [list(self.classes[name]).index(c) for c in own]] for name, own in tasks.items()
        ]
        order = [c for own in tasks.values() for c in own]
        return torch.cat(columns, 1), torch.tensor([order.index(label) for label in self.labels])


def alone(name: str, answers: Answers, wanted: Sequence[str]) -> dict[str, float]:
    """Class -> share of its images in percent that a network gets right, over the wanted classes that it knows."""
    known = [output for output, found in enumerate(answers.classes[name]) if found in wanted]
    if not known:
        return {}
    said = [answers.classes[name][known[i]] for i in answers.logits[name][:, known].argmax(1).tolist()]
    found = {}
    for c in (answers.classes[name][output] for output in known):
        own = [one == c for one, label in zip(said, answers.labels, strict=True) if label == c]
        found[c] = 100 * sum(own) / len(own)
    return found


def accuracy(tasks: Mapping[str, Sequence[str]], train: Answers, asked: Answers, method: Method, ridge: float) -> float:
    """Accuracy in percent of a choice (network -> its classes) on the images of `asked`, scaled by `method` on `train`.

    Sees what the integer program does not: that a class may be lost to one of another network, and, where these are the
    answers of components, what cutting costs.
    """
    ends, spans = 0, list[range]()
    for own in tasks.values():
        spans.append(range(ends, ends := ends + len(own)))
    scaling = calibration.fit(method, *train.of(tasks), spans, ridge)
    logits, labels = asked.of(tasks)
    return accuracies.accuracy(scaling(logits), labels)
