"""The exact k best candidates (DeRy, section 3.4, Eq. 8-11) by best-first search over prefixes of paths."""

import heapq
from collections.abc import Iterable, Iterator

import numpy as np

from . import bounds
from .problem import AssemblyProblem, Candidate, Pool
from .tables import GRAIN, Columns
from .unrolled import rolled, unroll

LABELS = 3_000_000  # prefixes made, at most; about 1 GB
SLACK = 1e-9  # for the rounding of the Lagrangian bound; sums of scores are exact

Label = tuple[float, Columns, float, int, np.ndarray]
"""(-bound, path, score, sources as a bit set, what is used of each ceiling); sorts by bound, then by path"""


def best(problem: AssemblyProblem, count: int, labels: int = LABELS, apart: int = 0) -> Pool:
    """The `count` best feasible candidates, best first, equal scores in the order of their paths; each is the best that
    has blocks of other networks than all before it at `apart` places at least. 0: forms of the same blocks are
    candidates of their own.

    A* (Hart, Nilsson, Raphael 1968): prefixes are opened in the order of an upper bound on what they can still become,
    the lesser of two: score and best suffix regardless of limits, and the same with the limits priced by Lagrange
    multipliers. Prefixes that break a limit even with the cheapest suffix (a lower one: the dearest), that cannot have
    the right sources any more, or that have too much in common with a candidate found before, are dropped. An empty
    pool means that the problem is infeasible.

    Stops after `labels` prefixes; then the pool is shorter and its status says so, yet what it holds is the best.

    Differs from the paper: exact, where its search is a greedy exchange (`exchange`) of 500 candidates.
    """
    whole, problem = problem, unroll(problem)
    graph = _Graph(problem)
    queue: list[Label] = list(graph.successors((), 0.0, 0, np.zeros(len(problem.ceilings))))
    heapq.heapify(queue)
    found: list[Columns] = []
    taken: list[Columns] = []  # their networks
    made = len(queue)
    while queue and len(found) < count and made <= labels:
        _, path, score, sources, used = heapq.heappop(queue)
        networks = tuple(problem.networks[m] for m in path)
        if apart and _near(networks, taken, problem.sets - apart):
            continue
        if len(path) == problem.sets:
            found.append(path)
            taken.append(networks)
            continue
        for label in graph.successors(path, score, sources, used):
            heapq.heappush(queue, label)
            made += 1
    status = "optimal"
    if len(found) < count:
        status = (
            f"stopped after {labels:,} labels; these {len(found)} are the best"
            if queue
            else f"optimal; {len(found)} candidates {whole.told_as(apart)}"
        )
    return Pool(tuple(Candidate.of(whole, rolled(problem, path, whole)) for path in found), status)


def _near(own: Columns, others: Iterable[Columns], most: int) -> bool:
    """Whether a path, or the beginning of one, has the network of one of the others at more than so many places."""
    return any(sum(a == b for a, b in zip(own, other, strict=False)) > most for other in others)


class _Graph:
    """All steps from a block m to the next one, n of set k: gains and bounds [K, N, N], costs and room [K, N, N, R]."""

    def __init__(self, problem: AssemblyProblem) -> None:
        self.sets, columns = problem.sets, problem.choices
        self.bits = [1 << m for m in problem.networks]
        self.required = sum(1 << m for m in problem.required)
        self.least_sources = problem.min_sources
        self.most_sources = columns if problem.max_sources is None else problem.max_sources

        ceilings = problem.ceilings
        limits = np.floor(np.array([one.most for one in ceilings]) * GRAIN) / GRAIN  # costs are multiples
        relaxed, plain = bounds.tightest(problem), bounds.relax(problem, np.zeros(len(ceilings)))
        closed = np.where(problem.open_blocks, 0, -np.inf)[:, None, :]
        closed = closed + _before(np.where(problem.open_stitches, 0, -np.inf), columns)
        self.gains = problem.scores.blocks[:, None, :] + _before(problem.scores.stitches, columns)
        costs = [one.table.blocks[:, None, :] + _before(one.table.stitches, columns) for one in ceilings]
        self.costs = np.stack([*costs, self.gains], -1)[..., :-1]
        least = np.stack([*(bounds.least(problem, one.table) for one in ceilings), plain.rest], -1)[..., :-1]
        self.room = limits - self.costs - least[:, None]
        self.multipliers = relaxed.multipliers
        self.plain = self.gains + closed + plain.rest[:, None]
        priced = self.gains + closed + relaxed.rest[:, None] - self.costs @ self.multipliers
        self.priced = priced + float(self.multipliers @ limits) + SLACK

    def successors(self, path: Columns, score: float, sources: int, used: np.ndarray) -> Iterator[Label]:
        """A prefix with one more block, in all ways that may still end well."""
        k, m = len(path), path[-1] if path else 0
        bound = score + np.minimum(self.plain[k, m], self.priced[k, m] - self.multipliers @ used)
        open_to = (used <= self.room[k, m]).all(1) & (bound > -np.inf)
        gained, spent = score + self.gains[k, m], used + self.costs[k, m]
        rest = self.sets - k - 1
        for n in np.flatnonzero(open_to).tolist():
            chosen = sources | self.bits[n]
            number, missing = chosen.bit_count(), (self.required & ~chosen).bit_count()
            enough = number + rest >= self.least_sources and missing <= rest
            if enough and number + missing <= self.most_sources:
                yield -float(bound[n]), (*path, n), float(gained[n]), chosen, spent[n]


def _before(stitches: np.ndarray, networks: int) -> np.ndarray:
    """[K, N, N]: the stitch in front of each block; none in front of the first."""
    return np.concatenate([np.zeros((1, networks, networks)), stitches])
