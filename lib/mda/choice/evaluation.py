"""The images on which choices of components, and whole networks as their control, are made and evaluated."""

from collections.abc import Mapping
from functools import partial
from typing import Literal

import numpy as np
import torch
from torch import nn

from ...base.errors import BrickyardError
from ...images import data
from ...network.component import Component
from ...params.lego import Choose, Lego
from ...trace.duplicate import evaluating
from ...zoo.card import Card
from .. import accuracies
from . import ranking
from .kept import Kept, keep
from .ranking import Answers
from .search import Judge

Split = Literal["train", "choosing", "predicting", "test"]
ENOUGH = 10  # validation images of a class, of which half choose and half predict
Asked = Mapping[str, tuple[nn.Module, Card] | tuple[nn.Module, Component]]  # a network or its component, by network


class Evaluation:
    """Images of the wanted classes: about `scaling_images_per_class` train images of each, on which scalings are
    fitted; validation images, of which one half of each class chooses and the other predicts, if every class has
    ENOUGH, else all do both; and all test images.

    A prediction holds for images like those that predict: networks that have been trained on these look better.
    Raises BrickyardError naming a class without train or validation images.
    """

    def __init__(self, images: data.DataSet, params: Lego, wanted: Choose, seed: int, device: torch.device):
        names, labels = images.classes, images.labels
        numbers = data.parse_classes(wanted.classes, names, "lego.choose.classes")
        splits = (images.train, images.validation, images.test)
        train, validation, test = (data.of_classes(images.images, split, numbers) for split in splits)
        for number in numbers:
            if not all((labels[split] == number).any() for split in (train, validation)):
                raise BrickyardError(
                    f"lego.choose.classes: class {names[number]!r} lacks train or validation images; leave it out"
                )
        train = data.stratified_sample(images.images, train, params.scaling_images_per_class * len(numbers), seed)
        self.images, self.device = images, device
        self._params, self._numbers = params, numbers
        choosing, predicting = halves(images, validation, seed)
        self._index = {"train": train, "choosing": choosing, "predicting": predicting, "test": test}

    @property
    def classes(self) -> tuple[str, ...]:
        """The wanted ones, by name."""
        return tuple(self.images.classes[number] for number in self._numbers)

    @property
    def counts(self) -> dict[str, int]:
        """How many images choose and how many predict, and how many do both."""
        choosing, predicting = self._index["choosing"], self._index["predicting"]
        both = len(np.intersect1d(choosing, predicting))
        return {"choosing": len(choosing), "predicting": len(predicting), "both": both}

    def kept(self, asked: Asked) -> tuple[Kept, Judge]:
        """What networks say to images that choose, and how a combination of them is judged on these: scaled together.

        Each wanted class is known to one of them.
        """
        train, found = self.answers("train", asked), self.answers("choosing", asked)
        method, ridge = self._params.scaling, self._params.scaling_ridge
        return keep(train, found, self.classes, method, ridge), partial(
            ranking.accuracy, train=train, asked=found, method=method, ridge=ridge
        )

    @property
    def has_offsets(self) -> bool:
        """Whether scaling adds something to logits."""
        return self._params.scaling == "affine"

    def answers(self, split: Split, asked: Asked) -> Answers:
        """What networks, or components, say to the images of a split; they are left as and where they are."""
        images, index, logits = self.images.images, self._index[split], {}
        for name, (module, described) in asked.items():
            transform = described.input.transform()
            loader = data.Loader(images, index, transform, accuracies.BATCH_SIZE, self._numbers)
            logits[name] = accuracies.logits(evaluating(module, self.device), loader)[0]
        known = {name: described.classes for name, (_, described) in asked.items()}
        return Answers(logits, known, [images.classes[label] for label in images.labels[index]])

    def accuracy(self, tasks: Mapping[str, tuple[str, ...]], asked: Asked, *splits: Split) -> list[float]:
        """Accuracy in percent, by split, of networks, or components, side by side, each for its classes; scaled on
        train images.

        tasks: network -> its classes, all wanted ones between them.
        """
        train, method, ridge = self.answers("train", asked), self._params.scaling, self._params.scaling_ridge
        return [ranking.accuracy(tasks, train, self.answers(one, asked), method, ridge) for one in splits]


def halves(images: data.DataSet, index: np.ndarray, seed: int, enough: int = ENOUGH) -> tuple[np.ndarray, np.ndarray]:
    """Two halves of some images, of each class; twice the whole where a class has fewer than `enough`."""
    labels = images.labels[index]
    if np.unique(labels, return_counts=True)[1].min() < enough:
        return index, index
    shuffled = np.random.default_rng(seed).permutation(len(index))
    ordered = shuffled[np.argsort(labels[shuffled], kind="stable")]  # class by class, so that every second one is half
    return np.sort(index[ordered[::2]]), np.sort(index[ordered[1::2]])
