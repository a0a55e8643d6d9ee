"""A candidate put together, and the images on which it is measured."""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from ...images.data import DataSet, Loader, stratified_sample
from ...network.modules import ReassembledNetwork
from ...network.reassembled import Reassembled
from ...params.assembly import Assembly
from ...training.fit import accuracy
from ...zoo import ask
from ...zoo.ask import Scores
from ...zoo.card import Input
from ..paths.problem import Candidate

NASWOT_BATCHES, NASWOT_IMAGES = 5, 32


@dataclass(frozen=True)
class Measure:
    """Accuracy in percent on images of one index, each network under the transform it names."""

    data: DataSet
    index: np.ndarray
    batch_size: int
    _loaders: dict[Input, Loader] = field(default_factory=dict, compare=False, repr=False)

    def __call__(self, network: nn.Module, expected: Input) -> float:
        """Share of the images that `network` gets right, in percent."""
        return accuracy(network, self.images(expected))

    def scores(self, network: nn.Module, expected: Input) -> Scores:
        """Accuracy and balanced accuracy of `network`, in percent."""
        return ask.of(network, self.images(expected))

    @property
    def labels(self) -> torch.Tensor:
        """int64 [n]"""
        return torch.from_numpy(self.data.labels[self.index])

    def images(self, expected: Input) -> Loader:
        """The images as a network expects them; decoded once for all networks that expect the same."""
        if expected not in self._loaders:
            self._loaders[expected] = Loader(self.data.images, self.index, expected.transform(), self.batch_size)
        return self._loaders[expected]


@dataclass(frozen=True)
class Measures:
    """ranking: labelled images for the ranking; probes: those on which NASWOT looks at a network, 5 batches of 32 train
    images or as many as there are; validation and test images.
    """

    ranking: Measure
    probes: Measure
    validation: Measure
    test: Measure


def measures(images: DataSet, params: Assembly, seed: int) -> Measures:
    """The images of each purpose, on which networks are measured."""
    labelled = {"validation": images.validation, "train": images.train}[params.rank_on]
    few = stratified_sample(images.images, labelled, params.rank_images, seed)
    ranking, validation, test = (Measure(images, i, params.batch_size) for i in (few, images.validation, images.test))
    probes = Measure(images, images.probe[: NASWOT_BATCHES * NASWOT_IMAGES], NASWOT_IMAGES)
    return Measures(ranking, probes, validation, test)


@dataclass(frozen=True)
class Built:
    """A candidate put together."""

    candidate: Candidate
    network: ReassembledNetwork
    recipe: Reassembled
    measures: Measures

    def accuracy(self) -> float:
        """Untrained, on the labelled ranking images, in percent."""
        return self._judged[0]

    def likelihood(self) -> float:
        """Mean log-likelihood of the labels of the same images, in nats."""
        return self._judged[1]

    @cached_property
    def _judged(self) -> tuple[float, float]:
        with torch.no_grad():
            answers = [(self.network(x), y) for x, y in self.measures.ranking.images(self.recipe.input)]
        logits, labels = (torch.cat(parts) for parts in zip(*answers, strict=True))
        right = int((logits.argmax(1) == labels).sum())
        return 100 * right / len(labels), -float(F.cross_entropy(logits.double(), labels))
