"""The images on which choices of components, and whole networks as their control, are evaluated."""

from collections.abc import Mapping
from typing import Literal

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
from .ranking import Answers

Split = Literal["train", "validation", "test"]
Asked = Mapping[str, tuple[nn.Module, Card] | tuple[nn.Module, Component]]  # a network or its component, by network


class Evaluation:
    """Images of the wanted classes: about `scaling_images_per_class` train images of each, on which scalings are
    fitted, and all validation and test images.

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
        self._index = {"train": train, "validation": validation, "test": test}

    @property
    def classes(self) -> tuple[str, ...]:
        """The wanted ones, by name."""
        return tuple(self.images.classes[number] for number in self._numbers)

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

    def accuracy(self, tasks: Mapping[str, tuple[str, ...]], asked: Asked, split: Split) -> float:
        """Accuracy in percent of networks, or components, side by side, each for its classes; scaled on train images.

        tasks: network -> its classes, all wanted ones between them.
        """
        train, found = self.answers("train", asked), self.answers(split, asked)
        return ranking.accuracy(tasks, train, found, self._params.scaling, self._params.scaling_ridge)
