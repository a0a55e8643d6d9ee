"""Which candidates are joined to a tree. The logits of all on the ranking images are kept, so that any set of them is
judged by adding them up, without another forward pass (greedy ensemble selection is Caruana et al. 2004). Ours, not in
the paper.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb

import torch
from jaxtyping import Float, Int64
from torch.nn import functional as F

from ...base.progress import track
from ...trace.logits import logits
from ...zoo.card import Input
from ..paths import trees
from ..paths.problem import AssemblyProblem, Candidate, Columns
from .built import Measures
from .reassembly import Workshop

EXACT = 20_000  # sets that are all looked at; of more, those that begin with one of the BEAM best
BEAM = 100


@dataclass(frozen=True)
class Member:
    """A chain that may be a tail of a tree, what it expects, and its logits on the ranking images."""

    candidate: Candidate
    path: Columns
    input: Input
    logits: Float[torch.Tensor, "n classes"]


@torch.no_grad()
def members(
    workshop: Workshop, problem: AssemblyProblem, pool: Sequence[Candidate], lenders: Sequence[int], measures: Measures
) -> list[Member]:
    """The candidates of the pool and the whole networks that may lend blocks, as far as they are within the budget."""
    whole = [(m,) * problem.sets for m in lenders]
    paths = {tuple(problem.names.index(name) for name in one.pick.networks): one for one in pool}
    paths |= {path: Candidate.of(problem, path) for path in whole if path not in paths and problem.within(path)}
    found = []
    for path, candidate in track(list(paths.items()), "tails", len(paths)):
        network, recipe = workshop.reassemble(candidate.pick)
        said = torch.cat([logits(network(x)) for x, _ in measures.ranking.images(recipe.input)])
        found.append(Member(candidate, path, recipe.input, said))
    return found


def join(
    problem: AssemblyProblem, known: Sequence[Member], labels: Int64[torch.Tensor, " n"], tails: int, count: int
) -> list[Candidate]:
    """The `count` best trees of up to so many tails, best first: by the accuracy of the mean of their logits, ties by
    likelihood, then by members. They keep the limits of `problem` and its rules on sources, and all their tails expect
    the same images: what preparing others would cost is not foreseen.
    """
    said = torch.stack([one.logits for one in known])
    judged: dict[tuple[int, ...], tuple[float, float]] = {}
    begun: Sequence[tuple[int, ...]] = [(i,) for i in range(len(known))]
    for size in range(2, min(tails, len(known)) + 1):
        sets = list(_affordable(problem, known, _larger(begun, len(known), size)))
        for one in track(sets, f"trees of {size} tails", len(sets)):
            judged[one] = _judge(said[list(one)].mean(0), labels)
        begun = sorted(sets, key=lambda one: _order(judged, one))
    best = sorted(judged, key=lambda one: _order(judged, one))[:count]
    return [_candidate(problem, [known[i] for i in one]) for one in best]


def _larger(begun: Sequence[tuple[int, ...]], among: int, size: int) -> Iterator[tuple[int, ...]]:
    """Sets of `size` of so many members: all, or those that a good set can become."""
    if comb(among, size) <= EXACT:
        return combinations(range(among), size)
    grown = {tuple(sorted({*one, i})) for one in begun[:BEAM] for i in range(among) if i not in one}
    return iter(sorted(grown))


def _affordable(
    problem: AssemblyProblem, known: Sequence[Member], sets: Iterator[tuple[int, ...]]
) -> Iterator[tuple[int, ...]]:
    for one in sets:
        tails = [known[i] for i in one]
        alike = all(tail.input == tails[0].input for tail in tails)
        if alike and trees.feasible(problem, [tail.path for tail in tails]):
            yield one


def _judge(logits: Float[torch.Tensor, "n classes"], labels: Int64[torch.Tensor, " n"]) -> tuple[float, float]:
    right = float((logits.argmax(1) == labels).double().mean())
    return right, -float(F.cross_entropy(logits.double(), labels))


def _order(
    judged: dict[tuple[int, ...], tuple[float, float]], one: tuple[int, ...]
) -> tuple[float, float, tuple[int, ...]]:
    accuracy, likelihood = judged[one]
    return -accuracy, -likelihood, one


def _candidate(problem: AssemblyProblem, chosen: Sequence[Member]) -> Candidate:
    """Its score is the mean of its tails'."""
    first, *others = (one.candidate.pick for one in chosen)
    score = sum(one.candidate.score for one in chosen) / len(chosen)
    return Candidate(first, score, trees.price(problem, [one.path for one in chosen]), tuple(others))
