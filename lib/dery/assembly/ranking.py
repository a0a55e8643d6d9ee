"""Which candidates are worth keeping: the pool, put together without training, ranked by what a proxy says of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import inf
from typing import Literal

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from ...base.progress import track
from ...images.data import DataSet, Loader, stratified_sample
from ...network.blocks import Pick
from ...params.assembly import Assembly
from ...trace.cost import Cost
from ...training.fit import accuracy
from ...zoo import ask
from ...zoo.ask import Scores
from ...zoo.networks import Input
from ..paths.problem import Candidate
from .material import Bricks
from .network import ReassembledNetwork
from .proxies.agreement import kendall_tau
from .proxies.naswot import naswot
from .proxies.synflow import synflow
from .reassembly import reassemble
from .recipe import Recipe

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
        """That, and balanced."""
        return ask.of(network, self.images(expected))

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
    """On the images of each purpose."""
    labelled = {"validation": images.validation, "train": images.train}[params.rank_on]
    few = stratified_sample(images.images, labelled, params.rank_images, seed)
    ranking, validation, test = (Measure(images, i, params.batch_size) for i in (few, images.validation, images.test))
    probes = Measure(images, images.probe[: NASWOT_BATCHES * NASWOT_IMAGES], NASWOT_IMAGES)
    return Measures(ranking, probes, validation, test)


@dataclass(frozen=True)
class Assembled:
    """A candidate put together."""

    candidate: Candidate
    network: ReassembledNetwork
    recipe: Recipe
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

    def naswot(self) -> float | None:
        """On the probe images."""
        return naswot(self.network, (x for x, _ in self.measures.probes.images(self.recipe.input)))

    def synflow(self) -> float | None:
        """Without images."""
        return synflow(self.network, self.recipe.input.shape)


@dataclass(frozen=True)
class Proxy:
    """of: what it says of a candidate, None where it says nothing; better: where the better ones lie."""

    better: Literal["high", "low"]
    of: Callable[[Assembled], float | None]

    def key(self, value: float | None) -> float:
        """Larger is better; what it says nothing of comes last."""
        return -inf if value is None else value if self.better == "high" else -value


PROXIES: Mapping[str, Proxy] = {
    "accuracy": Proxy("high", Assembled.accuracy),
    "likelihood": Proxy("high", Assembled.likelihood),
    "naswot": Proxy("high", Assembled.naswot),
    "synflow": Proxy("high", Assembled.synflow),
    "params": Proxy("low", lambda made: made.candidate.cost["params"]),
    "macs": Proxy("low", lambda made: made.candidate.cost["macs"]),
    "score": Proxy("high", lambda made: made.candidate.score),
}


@dataclass(frozen=True)
class Ranked:
    """A candidate, what each proxy says of it, and where it is one of those wanted, the network itself; counted: the
    cost of that, counted anew.
    """

    candidate: Candidate
    values: Mapping[str, float | None]
    made: tuple[ReassembledNetwork, Recipe] | None = None
    counted: Cost | None = None


def rank(bricks: Bricks, pool: Sequence[Candidate], by: str, wanted: int, measures: Measures) -> list[Ranked]:
    """All candidates of the pool, best first by the proxy `by`, ties by likelihood, predicted score and blocks; only
    the first `wanted` keep their networks, so that memory does not grow with the pool.

    Accuracies on few images tie often. Likelihood tells finer, but is no measure of its own between heads of different
    calibration (those of sources, refitted ones, closed forms).
    """

    def key(one: Ranked) -> tuple[float, float, float, Pick]:
        first, second = (-PROXIES[name].key(one.values[name]) for name in (by, "likelihood"))
        return first, second, -one.candidate.score, one.candidate.pick

    ranked: list[Ranked] = []
    for candidate in track(pool, "candidates", len(pool)):
        made = Assembled(candidate, *reassemble(bricks, candidate.pick), measures)
        values = {name: proxy.of(made) for name, proxy in PROXIES.items()}
        ranked.append(Ranked(candidate, values, (made.network, made.recipe)))
        ranked.sort(key=key)
        ranked[wanted:] = [Ranked(r.candidate, r.values) for r in ranked[wanted:]]
    return ranked


def agreements(ranked: Sequence[Ranked]) -> dict[str, float | None]:
    """Kendall's tau of every proxy to measured accuracy over the pool, each in the direction that it calls better."""
    columns = {name: [proxy.key(r.values[name]) for r in ranked] for name, proxy in PROXIES.items()}
    return {name: kendall_tau(column, columns["accuracy"]) for name, column in columns.items() if name != "accuracy"}
