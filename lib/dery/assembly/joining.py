"""What chains are treated with and which are joined to a tree, as the choosing half of the ranking images says.

The logits of all on the ranking images are kept, so that any set of them is judged by adding them up, without another
forward pass (greedy ensemble selection is Caruana et al. 2004). Ours, not in the paper.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, pairwise
from math import comb

import torch
from jaxtyping import Float

from ...base.progress import track
from ...params.assembly import Treatment
from ...zoo.card import Input
from ..paths import trees
from ..paths.problem import AssemblyProblem, Candidate
from ..paths.tables import Columns, Kind
from .built import Design, Measures, judge
from .grove import Grove
from .reassembly import blocks_of
from .workshop import Workshop

Chosen = tuple[int, ...]  # of the members, ascending
AT_ONCE = 96  # networks that are asked together
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
    wanted, found = list[tuple[Candidate, Treatment]](), list[Member]()
    for candidate in candidates:
        tried: Sequence[Treatment] = treatments if len(candidate.pick.runs()) > 1 else ("none",)
        for treatment in tried:
            wanted.append((candidate, treatment))
    for start in range(0, len(wanted), AT_ONCE):
        group = wanted[start : start + AT_ONCE]
        made = [workshop.reassemble(one.pick, how) for one, how in track(group, "chains", len(group))]
        grove = Grove.of(workshop.bricks, {str(i): network for i, network in enumerate(made)})
        halves = [grove.answers(half.images) for half in (measures.choosing, measures.picking)]
        for i, ((candidate, treatment), (_, recipe)) in enumerate(zip(group, made, strict=True)):
            path = problem.path(candidate.pick)
            found.append(Member(candidate, path, treatment, recipe.input, *(half[str(i)] for half in halves)))
    return found


def whole(problem: AssemblyProblem, lenders: Sequence[int]) -> list[Candidate]:
    """The whole networks that may lend blocks, as far as they are within the budget."""
    found = [Candidate.of(problem, problem.whole(m)) for m in lenders]
    return [one for one in found if within(one.cost, problem.limits)]


def chains(known: Sequence[Member], measures: Measures) -> list[Design]:
    """Every candidate with the treatment that the choosing images find best, ties by likelihood, then in order."""
    best: dict[Columns, tuple[tuple[float, float], Member]] = {}
    for one in known:
        judged = judge(one.choosing, measures.choosing.labels)
        if one.path not in best or judged > best[one.path][0]:
            best[one.path] = judged, one
    return [Design(one.candidate, (one.treatment,), logits=one.picking) for _, one in best.values()]


class Joiner:
    """Joins members to trees, within one budget after another: what a set costs and how right it is is found once.

    problem: whose rules on sources they keep; tails that have stitches in common are treated alike there, and all
    expect the same images: what preparing others would cost is not foreseen.
    tails: most of them.
    """

    def __init__(self, problem: AssemblyProblem, known: Sequence[Member], measures: Measures, tails: int) -> None:
        self.problem, self.known, self.measures, self.tails = problem, known, measures, tails
        self._costs: dict[tuple[Columns, ...], dict[Kind, float] | None] = {}
        self._judged: dict[Chosen, tuple[float, float]] = {}

    def best(self, count: int, limits: Mapping[Kind, float] | None = None) -> list[Design]:
        """The `count` best trees of two tails or more, best first: by the accuracy of the mean of their logits on the
        choosing images, ties by likelihood, then by members. limits: instead of the problem's.
        """
        limits = self.problem.limits if limits is None else limits
        members = [i for i, one in enumerate(self.known) if within(one.candidate.cost, limits)]
        begun, every = [(i,) for i in members], list[Chosen]()
        for size in range(2, min(self.tails, len(members)) + 1):
            sets = [one for one in _larger(begun, members, size) if self._affordable(one, limits)]
            for one in track(sets, f"trees of {size} tails", len(sets)):
                self._judge(one)
            begun = sorted(sets, key=self._order)
            every += begun
        different: dict[frozenset[Columns], Chosen] = {}
        for one in sorted(every, key=self._order):
            different.setdefault(frozenset(self.known[i].path for i in one), one)
        return [self._design(one) for one in list(different.values())[:count]]

    def _affordable(self, one: Chosen, limits: Mapping[Kind, float]) -> bool:
        tails = [self.known[i] for i in one]
        if any(a.input != b.input or not _agree(a, b) for a, b in combinations(tails, 2)):
            return False
        paths = tuple(tail.path for tail in tails)
        if paths not in self._costs:
            admitted = trees.feasible(replace(self.problem, limits={}), paths)
            self._costs[paths] = trees.price(self.problem, paths) if admitted else None
        cost = self._costs[paths]
        return cost is not None and within(cost, limits)

    def _judge(self, one: Chosen) -> None:
        if one not in self._judged:
            said = torch.stack([self.known[i].choosing for i in one]).mean(0)
            self._judged[one] = judge(said, self.measures.choosing.labels)

    def _order(self, one: Chosen) -> tuple[float, float, Chosen]:
        accuracy, likelihood = self._judged[one]
        return -accuracy, -likelihood, one

    def _design(self, one: Chosen) -> Design:
        """Its score is the mean of its tails'."""
        tails = [self.known[i] for i in one]
        first, *others = (tail.candidate.pick for tail in tails)
        score = sum(tail.candidate.score for tail in tails) / len(tails)
        cost = self._costs[tuple(tail.path for tail in tails)]
        assert cost is not None
        logits = torch.stack([tail.picking for tail in tails]).mean(0)
        treatments: tuple[Treatment, ...] = tuple(tail.treatment for tail in tails)
        return Design(Candidate(first, score, cost, tuple(others)), treatments, (1 / len(one),) * len(one), logits)


def _larger(begun: Sequence[Chosen], members: Sequence[int], size: int) -> Iterator[Chosen]:
    """Sets of `size` of the members: all, or those that a good set can become."""
    if comb(len(members), size) <= EXACT:
        return combinations(members, size)
    grown = {tuple(sorted({*one, i})) for one in begun[:BEAM] for i in members if i not in one}
    return iter(sorted(grown))


def within(cost: Mapping[Kind, float], limits: Mapping[Kind, float]) -> bool:
    """Whether costs keep upper limits."""
    return all(cost[kind] <= limit for kind, limit in limits.items())


def _agree(one: Member, other: Member) -> bool:
    """Whether what two tails have in common was treated alike."""
    shared = one.path[: trees.common(one.path, [other.path])]
    stitched = any(m != n for m, n in pairwise(shared))
    return not stitched or blocks_of(one.treatment) == blocks_of(other.treatment)
