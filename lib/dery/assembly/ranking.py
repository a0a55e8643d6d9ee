"""Which candidates are worth keeping: the pool, put together without training, ranked by what a proxy says of it."""

import importlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Any, Literal, Protocol, get_args

from ...base.progress import track
from ...network.blocks import Pick
from ...network.modules import ReassembledNetwork
from ...network.reassembled import Reassembled
from ...params.assembly import Predictor
from ...trace.cost import Cost
from ..combining import folded
from ..paths.problem import Candidate
from .agreement import kendall_tau
from .built import Built, Design, Measures
from .tree import plant
from .workshop import Workshop


class Proxy(Protocol):
    """A module of `proxies`, which foretells how accurate a candidate will be once it is tuned. BETTER: where the
    better ones lie.
    """

    BETTER: Literal["high", "low"]

    def predict(self, made: Built) -> float | None:
        """What the proxy says of a candidate, None where it says nothing."""
        ...


def find(name: str) -> Proxy:
    """The module of `proxies` that is called `name`."""
    found: Any = importlib.import_module(f".proxies.{name}", __package__)
    return found


def key(proxy: Proxy, value: float | None) -> float:
    """What a proxy says, so that larger is better; what it says nothing of comes last."""
    return -inf if value is None else value if proxy.BETTER == "high" else -value


PROXIES: Mapping[str, Proxy] = {name: find(name) for name in get_args(Predictor)}


@dataclass(frozen=True)
class Ranked:
    """A candidate, what each proxy says of it, and where it is one of those wanted, the network itself; counted: the
    cost of that, counted anew.
    """

    design: Design
    values: Mapping[str, float | None]
    made: tuple[ReassembledNetwork, Reassembled] | None = None
    counted: Cost | None = None

    @property
    def candidate(self) -> Candidate:
        """Its blocks, predicted score and costs."""
        return self.design.candidate


def rank(
    workshop: Workshop,
    pool: Sequence[Design],
    by: str,
    wanted: int,
    measures: Measures,
    shown: Collection[str] = tuple(PROXIES),
) -> list[Ranked]:
    """All candidates of the pool, best first by the proxy `by`, ties by likelihood, predicted score and blocks; only
    the first `wanted` have their networks, settled, so that memory does not grow with the pool. shown: further proxies,
    which are asked beside `by`, accuracy and likelihood.

    Accuracies on few images tie often. Likelihood tells finer, but is no measure of its own between heads of different
    calibration (those of sources, refitted ones, closed forms).
    """

    def place(one: Ranked) -> tuple[float, float, float, tuple[Pick, ...]]:
        first, second = (-key(PROXIES[name], one.values[name]) for name in (by, "likelihood"))
        return first, second, -one.candidate.score, one.candidate.picks

    asked = [name for name in PROXIES if name in {by, "accuracy", "likelihood", *shown}]
    ranked: list[Ranked] = []
    for design in track(pool, "candidates", len(pool)):
        made = Built(design, *put_together(workshop, design), measures)
        values = {name: PROXIES[name].predict(made) for name in asked}
        ranked.append(Ranked(design, values))
    ranked.sort(key=place)
    settled = [(one, put_together(workshop, one.design.settled(measures))) for one in ranked[:wanted]]
    return [*(replace(one, made=made) for one, made in settled), *ranked[wanted:]]


def put_together(workshop: Workshop, design: Design) -> tuple[ReassembledNetwork, Reassembled]:
    """The network of a design, a chain or a tree, and its recipe."""
    picks, bricks = design.candidate.picks, workshop.bricks
    chains = [workshop.reassemble(*own) for own in zip(picks, design.treatments, strict=True)]
    network, recipe = chains[0] if len(chains) == 1 else plant(bricks, picks, chains, design.weights)
    if design.stacked is None:
        return network, recipe
    return folded(network, recipe, design.stacked, bricks.sample(recipe.input))


def agreements(ranked: Sequence[Ranked]) -> dict[str, float | None]:
    """Kendall's tau of every proxy that was asked to measured accuracy over the pool, each in the direction that it
    calls better.
    """
    asked = {name: proxy for name, proxy in PROXIES.items() if all(name in r.values for r in ranked)}
    columns = {name: [key(proxy, r.values[name]) for r in ranked] for name, proxy in asked.items()}
    return {name: kendall_tau(column, columns["accuracy"]) for name, column in columns.items() if name != "accuracy"}
