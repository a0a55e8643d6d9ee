"""The images that all networks of a comparison are asked, and how a network enters it."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from lib.dery.paths.tables import Kind
from lib.images.data import DataSet
from lib.trace.logits import logits
from lib.zoo.card import Input
from studies.cifar10.tree import BATCH, ChannelsLast

KINDS: tuple[Kind, ...] = ("params", "macs")


@dataclass(frozen=True)
class Entrant:
    """A network as it enters a comparison.

    name: what it is made of.
    cost: of each kind.
    validation: accuracy on all images that choose, in percent.
    picking: the same on those of them that have fitted nothing.
    right: whether it is right on each test image, bool [n].
    fitted: whether heads were fitted to labels of the images that choose.
    """

    name: str
    cost: Mapping[Kind, float]
    validation: float
    picking: float
    right: np.ndarray
    fitted: bool = False

    @property
    def test(self) -> float:
        """Accuracy on the test images, in percent."""
        return 100 * float(self.right.mean())


class Questions:
    """Images that all are asked, in memory for each kind of input: all that choose, and all test images."""

    def __init__(self, images: DataSet) -> None:
        self.images, self.index = images, np.union1d(images.validation, images.test)
        self.labels = images.labels[self.index]
        self._loaders: dict[Input, ChannelsLast] = {}

    def loader(self, expected: Input) -> ChannelsLast:
        """In the order of `index`."""
        if expected not in self._loaders:
            self._loaders[expected] = ChannelsLast(self.images.images, self.index, expected.transform(), BATCH)
        return self._loaders[expected]

    def at(self, index: np.ndarray) -> np.ndarray:
        """Where some images stand among those that are asked."""
        return np.searchsorted(self.index, index)

    def entrant(
        self,
        name: str,
        cost: Mapping[Kind, float],
        said: np.ndarray,
        images: DataSet,
        picking: np.ndarray,
        fitted: bool = False,
    ) -> Entrant:
        """A network that answers the classes `said` [n]; images: says which of them choose and which test; picking:
        which of those that choose have fitted nothing; fitted: whether the others have fitted its heads.
        """
        right = said == self.labels
        validation, picked = (100 * float(right[self.at(index)].mean()) for index in (images.validation, picking))
        return Entrant(name, cost, validation, picked, right[self.at(images.test)], fitted)


@torch.inference_mode()
def ask(network: nn.Module, expected: Input, questions: Questions) -> torch.Tensor:
    """The logits of any network for the images that are asked, [n, classes]."""
    return torch.cat([logits(network(x)) for x, _ in questions.loader(expected)])
