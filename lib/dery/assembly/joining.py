"""What chains are treated with and which are joined to a tree, as the choosing half of the ranking images says.

The logits of all on the ranking images are kept, so that any set of them is judged by adding them up, without another
forward pass (greedy ensemble selection is Caruana et al. 2004), or by maps fitted to them (stacking, Wolpert 1992).
Ours, not in the paper.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from math import comb

import torch
from jaxtyping import Float

from ...base.progress import track
from ...fit.stacking import Discriminants, Stacked
from ...network.blocks import Pick
from ...params.assembly import Treatment
from ...zoo.card import Input
from ..combining import Combiner, Judged, is_stackable, judge
from ..paths import trees
from ..paths.problem import AssemblyProblem, Candidate
from ..paths.tables import Columns, Kind
from .built import Design, Measures
from .grove import Grove
from .reassembly import blocks_of
from .workshop import Workshop

Chosen = tuple[int, ...]  # of the members, ascending
AT_ONCE = 96  # networks that are asked together
EXACT = 20_000  # sets that are all looked at; of more, those that begin with one of the BEAM best
BEAM = 100
MEMBERS = 96  # of more members within a budget, whole networks and the best of the others are joined
REFINED = 2  # times as many sets as are wanted are fitted maps to


@dataclass(frozen=True)
class Member:
    """A chain under one treatment, what it expects, and its logits on both halves of the ranking images; stackable:
    whether its head ends in a linear layer.
    """

    candidate: Candidate
    path: Columns
    treatment: Treatment
    input: Input
    choosing: Float[torch.Tensor, "n classes"]
    picking: Float[torch.Tensor, "m classes"]
    stackable: bool = True


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
        for i, ((candidate, treatment), (network, recipe)) in enumerate(zip(group, made, strict=True)):
            path, (choosing, picking) = problem.path(candidate.pick), (half[str(i)] for half in halves)
            able = is_stackable(network, workshop.bricks.sample(recipe.input)[:1])
            found.append(Member(candidate, path, treatment, recipe.input, choosing, picking, able))
    return found


def whole(problem: AssemblyProblem, lenders: Sequence[int]) -> list[Candidate]:
    """The whole networks that may lend blocks, as far as they are within the budget."""
    found = [Candidate.of(problem, problem.whole(m)) for m in lenders]
    return [one for one in found if within(one.cost, problem.limits)]


def chains(known: Sequence[Member], measures: Measures, prior: float | None = None) -> list[Design]:
    """Every candidate with the treatment that the choosing images find best, ties by likelihood, then in order.

    prior: of the maps of stacking, which are tried on each as well; None: none are.
    """
    combiner = Combiner(measures.choosing.labels, prior)
    best: dict[Columns, tuple[Judged, Design]] = {}
    for one in known:
        judged, by = combiner.best([one.choosing], one.stackable)
        if one.path not in best or judged > best[one.path][0]:
            logits = one.picking if by is None else by(one.picking[None])
            heard = () if by is None else ((one.choosing, one.picking),)
            best[one.path] = judged, Design(one.candidate, (one.treatment,), (1.0,), logits, by, heard)
    return [design for _, design in best.values()]


class Joiner:
    """Joins members to trees, within one budget after another: what a set costs and how right it is is found once.

    problem: whose rules on sources they keep; tails that have stitches in common are treated alike there, and all
    expect the same images: what preparing others would cost is not foreseen.
    tails: most of them.
    prior: of the maps of stacking, which are tried on the sets that look best; None: the mean of logits is all.
    """

    def __init__(
        self,
        problem: AssemblyProblem,
        known: Sequence[Member],
        measures: Measures,
        tails: int,
        prior: float | None = None,
    ) -> None:
        self.problem, self.known, self.tails = problem, known, tails
        self.combiner = Combiner(measures.choosing.labels, prior)
        self._costs: dict[tuple[Columns, ...], dict[Kind, float] | None] = {}
        self._judged: dict[Chosen, Judged] = {}
        self._refined: dict[Chosen, tuple[Judged, Stacked | None]] = {}

    def best(self, count: int, limits: Mapping[Kind, float] | None = None) -> list[Design]:
        """The `count` best trees of two tails or more, best first: by the accuracy of their logits, combined, on the
        choosing images, ties by likelihood, then by members. limits: instead of the problem's.
        """
        limits = self.problem.limits if limits is None else limits
        members = self._members(limits)
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
        found = list(different.values())
        if self.combiner.prior is not None:
            found = sorted(found[: REFINED * count], key=lambda one: _order(self._combined(one)[0], one))
        return [self._design(one) for one in found[:count]]

    def _members(self, limits: Mapping[Kind, float]) -> list[int]:
        """Those within the limits that are joined, by number."""
        found = [i for i, one in enumerate(self.known) if within(one.candidate.cost, limits)]
        if len(found) <= MEMBERS:
            return found
        for i in found:
            self._judge((i,))
        hybrid = [i for i in found if len(self.known[i].candidate.pick.runs()) > 1]
        kept = set(sorted(hybrid, key=lambda i: self._order((i,)))[: max(0, MEMBERS - len(found) + len(hybrid))])
        return [i for i in found if i in kept or i not in hybrid]

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
        if one in self._judged:
            return
        tails, able = self._tails(one)
        mean = torch.stack(tails).mean(0)
        if self.combiner.tried(len(tails) * mean.shape[1], able):
            plain = float((mean.argmax(1) == self.combiner.labels).double().mean()) * 100
            self._judged[one] = max(plain, self._discriminants.accuracy(one)), 0.0  # ties are told apart by the fits
        else:
            self._judged[one] = judge(mean, self.combiner.labels)

    @cached_property
    def _discriminants(self) -> Discriminants:
        return Discriminants([one.choosing for one in self.known], self.combiner.labels)

    def _combined(self, one: Chosen) -> tuple[Judged, Stacked | None]:
        if one not in self._refined:
            self._refined[one] = self.combiner.best(*self._tails(one))
        return self._refined[one]

    def _tails(self, one: Chosen) -> tuple[list[torch.Tensor], bool]:
        tails = [self.known[i] for i in one]
        return [tail.choosing for tail in tails], all(tail.stackable for tail in tails)

    def _order(self, one: Chosen) -> tuple[float, float, Chosen]:
        return _order(self._judged[one], one)

    def _design(self, one: Chosen) -> Design:
        """Its score is the mean of its tails'."""
        tails = [self.known[i] for i in one]
        first, *others = (tail.candidate.pick for tail in tails)
        score = sum(tail.candidate.score for tail in tails) / len(tails)
        cost = self._costs[tuple(tail.path for tail in tails)]
        assert cost is not None
        said, by = torch.stack([tail.picking for tail in tails]), self._combined(one)[1]
        logits = said.mean(0) if by is None else by(said)
        treatments: tuple[Treatment, ...] = tuple(tail.treatment for tail in tails)
        candidate = Candidate(first, score, cost, tuple(others))
        heard = () if by is None else tuple((tail.choosing, tail.picking) for tail in tails)
        return Design(candidate, treatments, (1 / len(one),) * len(one), logits, by, heard)


def _order(judged: Judged, one: Chosen) -> tuple[float, float, Chosen]:
    """By which sets are sorted, best first."""
    accuracy, likelihood = judged
    return -accuracy, -likelihood, one


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
    """Whether what two tails have in common was treated alike: of one run of blocks, nothing was treated."""
    shared = one.candidate.pick.blocks[: trees.common(one.path, [other.path])]
    treated = bool(shared) and len(Pick(shared).runs()) > 1
    return not treated or blocks_of(one.treatment) == blocks_of(other.treatment)
