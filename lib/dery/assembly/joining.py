"""What chains are treated with and which are joined to a tree, as the choosing half of the ranking images says.

The logits of all on the ranking images are kept, so that any set of them is judged by adding them up, without another
forward pass (greedy ensemble selection is Caruana et al. 2004). Ours, not in the paper.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from math import comb

import torch
from jaxtyping import Float

from ...base.progress import track
from ...params.assembly import Treatment
from ...zoo.card import Input
from ..paths import trees
from ..paths.problem import AssemblyProblem, Candidate, Columns
from .built import Design, Measures, judge
from .reassembly import Workshop, blocks_of

EXACT = 20_000  # sets that are all looked at; of more, those that begin with one of the BEAM best
BEAM = 100


@dataclass(frozen=True)
class Member:
    """A chain under one treatment, what it expects, and its logits on both halves of the ranking images."""

    candidate: Candidate
    path: Columns
    treatment: Treatment
    input: Input
    choosing: Float[torch.Tensor, "n classes"]
    picking: Float[torch.Tensor, "m classes"]


def members(
    workshop: Workshop,
    problem: AssemblyProblem,
    candidates: Sequence[Candidate],
    treatments: Sequence[Treatment],
    measures: Measures,
) -> list[Member]:
    """Every candidate under every treatment; of whole networks, behind no stitch, there is one."""
    found = []
    for candidate in track(candidates, "tails", len(candidates)):
        path = tuple(problem.names.index(name) for name in candidate.pick.networks)
        for treatment in treatments if len(candidate.pick.runs()) > 1 else ("none",):
            network, recipe = workshop.reassemble(candidate.pick, treatment)
            said = [half.logits(network, recipe.input) for half in (measures.choosing, measures.picking)]
            found.append(Member(candidate, path, treatment, recipe.input, *said))
    return found


def whole(problem: AssemblyProblem, lenders: Sequence[int]) -> list[Candidate]:
    """The whole networks that may lend blocks, as far as they are within the budget."""
    paths = [(m,) * problem.sets for m in lenders]
    return [Candidate.of(problem, path) for path in paths if problem.within(path)]


def chains(known: Sequence[Member], measures: Measures) -> list[Design]:
    """Every candidate with the treatment that the choosing images find best, ties by likelihood, then in order."""
    best: dict[Columns, tuple[tuple[float, float], Member]] = {}
    for one in known:
        judged = judge(one.choosing, measures.choosing.labels)
        if one.path not in best or judged > best[one.path][0]:
            best[one.path] = judged, one
    return [Design(one.candidate, (one.treatment,), logits=one.picking) for _, one in best.values()]


def join(problem: AssemblyProblem, known: Sequence[Member], measures: Measures, tails: int, count: int) -> list[Design]:
    """The `count` best trees of up to so many tails, best first: by the accuracy of the mean of their logits on the
    choosing images, ties by likelihood, then by members. They keep the limits of `problem` and its rules on sources,
    tails that have stitches in common are treated alike there, and all expect the same images: what preparing others
    would cost is not foreseen.
    """
    said, labels = [one.choosing for one in known], measures.choosing.labels
    judged: dict[tuple[int, ...], tuple[float, float]] = {}
    begun: Sequence[tuple[int, ...]] = [(i,) for i in range(len(known))]
    for size in range(2, min(tails, len(known)) + 1):
        sets = list(_affordable(problem, known, _larger(begun, len(known), size)))
        for one in track(sets, f"trees of {size} tails", len(sets)):
            judged[one] = judge(sum((said[i] for i in one), torch.zeros(())) / len(one), labels)
        begun = sorted(sets, key=lambda one: _order(judged, one))
    different: dict[frozenset[Columns], tuple[int, ...]] = {}
    for one in sorted(judged, key=lambda one: _order(judged, one)):
        different.setdefault(frozenset(known[i].path for i in one), one)
    return [_design(problem, [known[i] for i in one]) for one in list(different.values())[:count]]


def _larger(begun: Sequence[tuple[int, ...]], among: int, size: int) -> Iterator[tuple[int, ...]]:
    """Sets of `size` of so many members: all, or those that a good set can become."""
    if comb(among, size) <= EXACT:
        return combinations(range(among), size)
    grown = {tuple(sorted({*one, i})) for one in begun[:BEAM] for i in range(among) if i not in one}
    return iter(sorted(grown))


def _affordable(
    problem: AssemblyProblem, known: Sequence[Member], sets: Iterator[tuple[int, ...]]
) -> Iterator[tuple[int, ...]]:
    feasible: dict[tuple[Columns, ...], bool] = {}
    for one in sets:
        tails = [known[i] for i in one]
        paths = tuple(tail.path for tail in tails)
        alike = all(tail.input == tails[0].input for tail in tails)
        if alike and all(_agree(a, b) for a, b in combinations(tails, 2)):
            if paths not in feasible:
                feasible[paths] = trees.feasible(problem, paths)
            if feasible[paths]:
                yield one


def _agree(one: Member, other: Member) -> bool:
    """Whether what two tails have in common was treated alike."""
    shared = one.path[: trees.common(one.path, [other.path])]
    stitched = any(m != n for m, n in pairwise(shared))
    return not stitched or blocks_of(one.treatment) == blocks_of(other.treatment)


def _order(
    judged: dict[tuple[int, ...], tuple[float, float]], one: tuple[int, ...]
) -> tuple[float, float, tuple[int, ...]]:
    accuracy, likelihood = judged[one]
    return -accuracy, -likelihood, one


def _design(problem: AssemblyProblem, chosen: Sequence[Member]) -> Design:
    """Its score is the mean of its tails'."""
    first, *others = (one.candidate.pick for one in chosen)
    score = sum(one.candidate.score for one in chosen) / len(chosen)
    cost = trees.price(problem, [one.path for one in chosen])
    weights = (1 / len(chosen),) * len(chosen)
    logits = torch.stack([one.picking for one in chosen]).mean(0)
    candidate = Candidate(first, score, cost, tuple(others))
    return Design(candidate, tuple(one.treatment for one in chosen), weights, logits)
