"""Which candidates are worth keeping: the pool measured on labelled train images, and what they must be compared to."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

import numpy as np
from torch import nn

from lib.data import DataSet, Loader
from lib.dery.assembly import AssemblyProblem, Candidate, Path
from lib.dery.network import ReassembledNetwork, Recipe
from lib.dery.reassembly import Bricks, reassemble
from lib.params.assembly import Budget
from lib.progress import track
from lib.training import accuracy
from lib.zoo import Input


@dataclass(frozen=True)
class Measure:
    """Accuracy in percent on images of one index, each network under the transform it names."""

    data: DataSet
    index: np.ndarray
    batch_size: int

    def __call__(self, network: nn.Module, expected: Input) -> float:
        """Share of the images that `network` gets right, in percent."""
        loader = Loader(self.data.images, self.index, expected.transform(), self.batch_size)
        return accuracy(network, loader)


@dataclass(frozen=True)
class Ranked:
    """A candidate put together, and its accuracy, untrained, on the ranking images."""

    candidate: Candidate
    accuracy: float
    network: ReassembledNetwork
    recipe: Recipe


def rank(bricks: Bricks, pool: Sequence[Candidate], measure: Measure) -> list[Ranked]:
    """All candidates of the pool, put together and sorted by measured accuracy, ties by predicted score."""
    ranked = []
    for candidate in track(pool, "candidates", len(pool)):
        network, recipe = reassemble(bricks, candidate.path)
        ranked.append(Ranked(candidate, measure(network, recipe.input), network, recipe))
    return sorted(ranked, key=lambda r: (-r.accuracy, -r.candidate.score))


def random_control(bricks: Bricks, paths: Iterable[Path], test: Measure) -> dict[str, Any]:
    """Test accuracies of randomly drawn candidates within the budget, put together in the same way."""
    found = []
    for path in track(list(paths), "random assemblies"):
        network, recipe = reassemble(bricks, path)
        found.append(test(network, recipe.input))
    return {"count": len(found), "mean": mean(found), "max": max(found)} if found else {"count": 0}


def zoo_control(
    bricks: Bricks, problem: AssemblyProblem, budget: Budget, validation: Measure, test: Measure
) -> dict[str, Any]:
    """Every zoo network as it would be used for the task, and the best within the budget, chosen by validation, ties
    by fewer parameters; None where the budget admits none.
    """
    models: dict[str, dict[str, Any]] = {}
    for m, card in track(list(enumerate(bricks.cards)), "zoo networks"):
        network, _ = reassemble(bricks, bricks.whole(m))
        price = problem.cost(bricks.whole(m))
        models[card.name] = {
            "params": price.params,
            "macs": price.macs,
            "head": "own" if bricks.keeps_head(m) else "closed form",
            "within_budget": price.within(budget.params, budget.macs),
            "validation": validation(network, card.input),
            "test": test(network, card.input),
        }
    affordable = [name for name, model in models.items() if model["within_budget"]]
    best = min(affordable, key=lambda name: (-models[name]["validation"], models[name]["params"]), default=None)
    return {"best_within_budget": {"model": best, **models[best]} if best else None, "models": models}


def row(candidate: Candidate, problem: AssemblyProblem, accuracy: float | None = None) -> dict[str, Any]:
    """A candidate for JSON: the network that supplies each set, predicted score, cost, accuracy where measured."""
    described = {
        "path": [problem.names[m] for m in candidate.path],
        "score": candidate.score,
        "params": candidate.cost.params,
        "macs": candidate.cost.macs,
    }
    return described if accuracy is None else {**described, "rank_accuracy": accuracy}
