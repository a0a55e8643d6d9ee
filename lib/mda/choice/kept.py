"""What whole networks say to images, kept: any combination of them is judged without asking anyone again."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float32, Int64

from ...params.lego import Method
from ..lego import calibration
from .ranking import Answers


@dataclass(frozen=True, eq=False)
class Kept:
    """Scaled logits of whole networks.

    names: of the networks.
    classes: the wanted ones, by name.
    scores: [networks, classes, images], nan where a network does not know a class.
    labels: positions in `classes`, one an image; each class has images.
    """

    names: tuple[str, ...]
    classes: tuple[str, ...]
    scores: Float32[np.ndarray, "networks classes n"]
    labels: Int64[np.ndarray, " n"]

    @cached_property
    def _weights(self) -> np.ndarray:
        """Of images, so that every class counts alike, in percent."""
        counts = np.bincount(self.labels, minlength=len(self.classes))
        return 100 / len(self.classes) / counts[self.labels]

    def accuracy(self, assignment: Sequence[int]) -> float:
        """In percent, the mean over classes, of the networks side by side, each with the classes that it supplies.

        assignment: for each class a network, which knows it.
        """
        said = self.scores[list(assignment), range(len(self.classes))].argmax(0)
        return float(self._weights @ (said == self.labels))

    @cached_property
    def at_best(self) -> dict[str, dict[str, float]]:
        """Network -> class that it knows -> the most of the class's images, in percent, that it can get right.

        An image counts unless another class beats its own whichever network supplies that. So no combination has more
        of the class right with this network, and its mean over classes bounds `accuracy`.
        """
        n = np.arange(len(self.labels))
        weakest = np.nanmin(self.scores, 0)
        weakest[self.labels, n] = -np.inf
        right = self.scores[:, self.labels, n] >= weakest.max(0)
        return {
            name: {
                c: 100 * float(right[m, self.labels == i].mean())
                for i, c in enumerate(self.classes)
                if not np.isnan(self.scores[m, i, 0])
            }
            for m, name in enumerate(self.names)
        }


def keep(train: Answers, asked: Answers, wanted: Sequence[str], method: Method, ridge: float) -> Kept:
    """What networks say to the images of `asked`, each scaled by `method` as it would be alone.

    train: what they say to train images, on which scalings are fitted, of each to images of what it knows; wanted:
    classes, each known to some network.
    """
    scores = np.full((len(asked.logits), len(wanted), len(asked.labels)), np.nan, np.float32)
    for m, (name, logits) in enumerate(asked.logits.items()):
        known = [c for c in wanted if c in asked.classes[name]]
        if known:
            scaling = calibration.fit(method, *train.only(known).of({name: known}), [range(len(known))], ridge)
            columns = [list(asked.classes[name]).index(c) for c in known]
            scores[m, [wanted.index(c) for c in known]] = scaling(logits[:, columns]).numpy().T
    labels = np.array([wanted.index(label) for label in asked.labels], np.int64)
    return Kept(tuple(asked.logits), tuple(wanted), scores, labels)
