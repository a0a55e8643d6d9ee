"""The exact k best candidates (DeRy, section 3.4, Eq. 8-11) by best-first search over prefixes of paths."""

import heapq
from collections.abc import Iterator

import numpy as np

from . import bounds
from .problem import GRAIN, AssemblyProblem, Candidate, Columns, Pool
from .unrolled import rolled, unroll

LABELS = 3_000_000  # prefixes made, at most; about 1 GB
SLACK = 1e-9  # for the rounding of the Lagrangian bound; sums of scores are exact

Label = tuple[float, Columns, float, int, np.ndarray]
"""(-bound, path, score, sources as a bit set, what is used of each additive limit); sorts by bound, then by path"""


def best(problem: AssemblyProblem, count: int, labels: int = LABELS) -> Pool:
    """The `count` best feasible candidates, best first, equal scores in the order of their paths.

    A* (Hart, Nilsson, Raphael 1968): prefixes are opened in the order of an upper bound on what they can still become,
    the lesser of two: score and best suffix regardless of limits, and the same with the limits priced by Lagrange
    multipliers. Prefixes that exceed a limit even with the cheapest suffix, or that cannot have the right sources any
    more, are dropped. An empty pool means that the problem is infeasible.

    Stops after `labels` prefixes; then the pool is shorter and its status says so, yet what it holds is the best.

    Differs from the paper: exact, where the paper draws 500 candidates at random.
    """
    whole, problem = problem, unroll(problem)
    graph = _Graph(problem)
    queue: list[Label] = list(graph.successors((), 0.0, 0, np.zeros(len(problem.additive))))
    heapq.heapify(queue)
    found: list[Columns] = []
    made = len(queue)
    while queue and len(found) < count and made <= labels:
        _, path, score, sources, used = heapq.heappop(queue)
        if len(path) == problem.sets:
            found.append(path)
            continue
        for label in graph.successors(path, score, sources, used):
            heapq.heappush(queue, label)
            made += 1
    status = "optimal"
    if len(found) < count:
        status = (
            f"stopped after {labels:,} labels; these {len(found)} are the best"
            if queue
            else f"optimal; {len(found)} candidates meet the budgets"
        )
    return Pool(tuple(Candidate.of(whole, rolled(problem, path, whole)) for path in found), status)


class _Graph:
    """All steps from a block m to the next one, n of set k: gains and bounds [K, N, N], costs and room [K, N, N, R]."""

    def __init__(self, problem: AssemblyProblem) -> None:
        self.sets, names = problem.sets, range(len(problem.names))
        self.bits = [1 << m for m in problem.networks]
        self.required = sum(1 << m for m in problem.required)
        self.least_sources = problem.min_sources
        self.most_sources = len(names) if problem.max_sources is None else problem.max_sources

        kinds = problem.additive
        limits = np.floor(np.array([problem.limits[kind] for kind in kinds]) * GRAIN) / GRAIN  # costs are multiples
        relaxed, plain = bounds.tightest(problem), bounds.relax(problem, np.zeros(len(kinds)))
        closed = np.where(problem.open_blocks, 0, -np.inf)[:, None, :]
        closed = closed + _before(np.where(problem.open_stitches, 0, -np.inf), len(names))
        self.gains = problem.scores.blocks[:, None, :] + _before(problem.scores.stitches, len(names))
        costs = [problem.costs[k].blocks[:, None, :] + _before(problem.costs[k].stitches, len(names)) for k in kinds]
        self.costs = np.stack([*costs, self.gains], -1)[..., :-1]
        least = np.stack([*(bounds.least(problem, kind) for kind in kinds), plain.rest], -1)[..., :-1]
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
