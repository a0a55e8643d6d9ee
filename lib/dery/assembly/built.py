"""What is to be put together, what has been, and the images on which it is measured."""

from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float
from torch import nn

from ...fit import stacking
from ...fit.stacking import Stacked
from ...images.data import DataSet, Loader, divide, stratified_sample
from ...network.modules import ReassembledNetwork
from ...network.reassembled import Reassembled
from ...params.assembly import Assembly, Treatment
from ...trace.logits import logits
from ...training.fit import accuracy
from ...zoo import ask
from ...zoo.ask import Scores
from ...zoo.card import Input
from ..combining import judge
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

    @torch.no_grad()
    def logits(self, network: nn.Module, expected: Input) -> Float[torch.Tensor, "n classes"]:
        """What `network` answers, on the CPU."""
        return torch.cat([logits(network(x)).cpu() for x, _ in self.images(expected)])

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
    """The images of each purpose.

    choosing: labelled images that choose what a chain is treated with, and which chains are joined to a tree.
    picking: others that rank what was chosen; where a class has but one labelled image for both, the same.
    probes: those on which NASWOT looks at a network, 5 batches of 32 train images or as many as there are.
    validation, test: all images of these parts.
    """

    choosing: Measure
    picking: Measure
    probes: Measure
    validation: Measure
    test: Measure


def measures(images: DataSet, params: Assembly, seed: int) -> Measures:
    """The images of each purpose, on which networks are measured; those of the ranking are halved class by class."""
    labelled = {"validation": images.validation, "train": images.train}[params.rank_on]
    if params.rank_images is not None:
        labelled = stratified_sample(images.images, labelled, params.rank_images, seed)
    counts = np.bincount(images.labels[labelled])
    choosing = picking = labelled
    if counts[counts > 0].min() > 1:
        choosing, picking = divide(labelled, images.labels, 0.5, seed, 1)
    parts = (np.sort(choosing), np.sort(picking), images.validation, images.test)
    choose, pick, validation, test = (Measure(images, index, params.batch_size) for index in parts)
    pick = choose if choosing is picking else pick
    probes = Measure(images, images.probe[: NASWOT_BATCHES * NASWOT_IMAGES], NASWOT_IMAGES)
    return Measures(choose, pick, probes, validation, test)


@dataclass(frozen=True)
class Design:
    """A candidate with all that says how its network is made.

    treatments: of each tail.
    weights: of the tails' logits in the sum.
    logits: on the picking images, where they are known.
    stacked: the maps that combine the tails' logits instead of the weights, and go into their heads.
    heard: where they are: each tail's logits on the choosing and on the picking images.
    """

    candidate: Candidate
    treatments: tuple[Treatment, ...]
    weights: tuple[float, ...] = (1.0,)
    logits: Float[torch.Tensor, "n classes"] | None = None
    stacked: Stacked | None = None
    heard: tuple[tuple[Float[torch.Tensor, "n classes"], Float[torch.Tensor, "m classes"]], ...] = ()

    def settled(self, measures: Measures) -> "Design":
        """With maps that all images of the ranking have fitted, once those that pick have nothing to choose any more;
        `logits` stay what the choosing half has made of them.
        """
        choosing, picking = measures.choosing, measures.picking
        if self.stacked is None or choosing is picking:
            return self
        together = torch.stack([torch.cat(tail) for tail in self.heard])
        labels = torch.cat([choosing.labels, picking.labels])
        return replace(self, stacked=stacking.stack(together, labels, self.stacked.prior))


@dataclass(frozen=True)
class Built:
    """A candidate put together."""

    design: Design
    network: ReassembledNetwork
    recipe: Reassembled
    measures: Measures

    @property
    def candidate(self) -> Candidate:
        """Its blocks, predicted score and costs."""
        return self.design.candidate

    def accuracy(self) -> float:
        """Untrained, on the picking images, in percent."""
        return self._judged[0]

    def likelihood(self) -> float:
        """Mean log-likelihood of the labels of the same images, in nats."""
        return self._judged[1]

    @cached_property
    def _judged(self) -> tuple[float, float]:
        picking = self.measures.picking
        known = self.design.logits
        return judge(picking.logits(self.network, self.recipe.input) if known is None else known, picking.labels)
