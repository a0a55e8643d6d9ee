"""How right networks are, whole ones alone and components side by side, from what they say to images."""

from collections.abc import Collection, Mapping, Sequence
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

    def only(self, classes: Collection[str]) -> "Answers":
        """What they say to the images of some classes."""
        rows = [i for i, label in enumerate(self.labels) if label in classes]
        logits = {name: found[rows] for name, found in self.logits.items()}
        return Answers(logits, self.classes, [self.labels[i] for i in rows])


def accuracy(tasks: Mapping[str, Sequence[str]], train: Answers, asked: Answers, method: Method, ridge: float) -> float:
    """Accuracy in percent of a choice (network -> its classes) on the images of `asked`, scaled by `method` on `train`.

    Of whole networks, or of components: these are what they will be side by side, to the last bits of the logits.
    """
    ends, spans = 0, list[range]()
    for own in tasks.values():
        spans.append(range(ends, ends := ends + len(own)))
    scaling = calibration.fit(method, *train.of(tasks), spans, ridge)
    logits, labels = asked.of(tasks)
    return accuracies.accuracy(scaling(logits), labels)
