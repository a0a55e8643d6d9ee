"""Score against each budget: all candidates that no other beats in both, by one sweep through the graph."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float64, Int64, Real, UInt64

from . import bounds, search
from .problem import AssemblyProblem, Candidate
from .tables import GRAIN, Columns, Kind
from .unrolled import rolled, unroll

REGIONS = 24  # in which the sweep asks whether a prefix can still lead to something new
SLACK = 1e-7  # of the bounds' rounding
ROUNDS = 32  # in which all small states are thinned together; what then remains of a large one is thinned by itself
LABELS = 200_000  # of the search for one point, under lower limits
CHUNK = 256  # rows of it that are compared with one another at once


@dataclass(frozen=True)
class Labels:
    """Prefixes of k blocks in the order of their paths: scores [l], costs [l, 1 + R] (the swept kind first), paths
    [l, k], and their sources, as bits [l, W]. free: bool [l], where the number of sources can no longer go wrong; there
    only the required ones are kept.
    """

    scores: Float64[np.ndarray, " l"]
    costs: Float64[np.ndarray, "l R"]
    paths: Int64[np.ndarray, "l k"]
    sources: UInt64[np.ndarray, "l W"]
    free: Bool[np.ndarray, " l"]

    def rows(self, index: Int64[np.ndarray, " some"]) -> "Labels":
        """Some of the prefixes."""
        return Labels(*(getattr(self, name)[index] for name in ("scores", "costs", "paths", "sources", "free")))


@dataclass(frozen=True)
class Region:
    """Where candidates may lie that nothing known beats: those that cost `limit` at most and score `score` at least.

    A prefix with these scores and costs that ends in block k of network m leads there only if score + plain[k, m] and
    score + priced[k, m] - costs @ multipliers reach `score`.
    """

    limit: float
    score: float
    plain: Float64[np.ndarray, "K N"]
    priced: Float64[np.ndarray, "K N"]
    multipliers: Float64[np.ndarray, " R"]

    def reached(self, labels: Labels, k: int) -> Bool[np.ndarray, " l"]:
        """bool [l]: which prefixes may lead there."""
        m = labels.paths[:, -1]
        gain = np.minimum(self.plain[k, m], self.priced[k, m] - labels.costs @ self.multipliers)
        return (labels.costs[:, 0] <= self.limit) & (labels.scores + gain >= self.score - SLACK)


def frontier(problem: AssemblyProblem, kind: Kind) -> list[Candidate]:
    """Candidates that no other beats in both score and `kind` of cost, from the cheapest to the dearest.

    The limits on `kind` are lifted, all others hold. Exact: label setting over the sets, in which a prefix goes only if
    another one in the same state (last block and sources) with no lower score and no more of any cost that counts can
    go on in every way that it can, or if bounds show that it leads to nothing new. What is known to begin with comes
    from a first sweep that tells sources apart by their number only. With lower limits it is a search for each point,
    from the dearest on; the front ends there where a search runs out of labels.
    """
    limits, at_least = ({k: v for k, v in given.items() if k != kind} for given in (problem.limits, problem.at_least))
    if at_least:
        return _point_by_point(replace(problem, limits=limits, at_least=at_least), kind)
    unrolled = unroll(problem)
    sweep = _Sweep(replace(unrolled, limits=limits, at_least={}), kind)
    labels = sweep.run(sweep.regions(sweep.run(None)))
    paths: list[Columns] = [rolled(unrolled, tuple(row), problem) for row in labels.paths.tolist()]
    return sorted((Candidate.of(problem, path) for path in paths), key=lambda c: c.score)


def _point_by_point(problem: AssemblyProblem, kind: Kind) -> list[Candidate]:
    """The best candidate, the best that costs less, and so on; of equal scores the cheapest."""
    found: list[Candidate] = []
    pool = search.best(problem, 1, LABELS)
    while pool.candidates:
        if found and found[-1].score == pool.candidates[0].score:
            found.pop()
        found.append(pool.candidates[0])
        cost = found[-1].cost[kind]
        less = min(cost - 1 / GRAIN, float(np.nextafter(cost, 0)))  # whichever is another float
        pool = search.best(replace(problem, limits={**problem.limits, kind: less}), 1, LABELS)
    return found[::-1]


class _Sweep:
    """One set after another, all prefixes at once."""

    def __init__(self, problem: AssemblyProblem, kind: Kind) -> None:
        self.problem, self.kind = problem, kind
        networks = 1 + max(problem.networks)
        bits = np.zeros((networks, -(-networks // 64)), np.uint64)
        bits[np.arange(networks), np.arange(networks) // 64] = 1 << (np.arange(networks) % 64).astype(np.uint64)
        self.bits = bits[list(problem.networks)]
        self.required = np.bitwise_or.reduce(bits[sorted(problem.required)], axis=0)
        self.most = problem.sets if problem.max_sources is None else problem.max_sources
        ceilings = problem.ceilings
        self.kinds = (kind, *(one.kind for one in ceilings))
        self.limits = np.floor(np.array([one.most for one in ceilings]) * GRAIN) / GRAIN
        tables = [problem.costs[kind], *(one.table for one in ceilings)]
        self.blocks = np.stack([table.blocks for table in tables], -1)
        self.stitches = np.stack([table.stitches for table in tables], -1)
        least = [bounds.least(problem, one.table) for one in ceilings]
        self.least = np.stack(least, -1) if least else np.zeros((*problem.scores.blocks.shape, 0))

    def run(self, regions: Sequence[Region] | None) -> Labels:
        """The whole paths that no other found beats; without regions, a quick and inexact sweep."""
        labels = self._thinned(self.starts(), 0, regions)
        for k in range(1, self.problem.sets):
            labels = self._thinned(self.step(labels, k), k, regions)
        return labels.rows(nondominated(labels.scores, labels.costs[:, :1]))

    def regions(self, known: Labels) -> list[Region]:
        """What the staircase of known candidates leaves open: all that costs no more than the next and scores no less
        than the one before, REGIONS at most.
        """
        order = np.argsort(known.scores)
        scores = np.concatenate([[-np.inf], known.scores[order]])
        limits = np.concatenate([known.costs[order, 0], [np.inf]])
        return [
            self._region(float(limits[part[-1]]), float(scores[part[0]]))
            for part in np.array_split(np.arange(len(scores)), min(REGIONS, len(scores)))
        ]

    def _region(self, limit: float, score: float) -> Region:
        others = self.problem.limits
        limited = replace(self.problem, limits=others if limit == np.inf else {**others, self.kind: limit})
        ceilings = limited.ceilings
        plain, relaxed = bounds.relax(limited, np.zeros(len(ceilings))), bounds.tightest(limited)
        price = dict(zip([one.kind for one in ceilings], relaxed.multipliers.tolist(), strict=True))
        allowed = sum(price[one.kind] * one.most for one in ceilings)
        multipliers = np.array([price.get(kind, 0.0) for kind in self.kinds])
        return Region(limit, score, plain.rest, relaxed.rest + allowed, multipliers)

    def starts(self) -> Labels:
        """Prefixes of the first block alone."""
        m = np.flatnonzero(self.problem.open_blocks[0])
        scores, costs = self.problem.scores.blocks[0, m], self.blocks[0, m]
        return Labels(scores, costs, m[:, None], self.bits[m], np.zeros(len(m), bool))

    def step(self, labels: Labels, k: int) -> Labels:
        """One more block to every prefix, wherever there is one."""
        problem, last = self.problem, labels.paths[:, -1]
        i, n = np.nonzero(problem.open_stitches[k - 1, last] & problem.open_blocks[k])
        m = last[i]
        scores = labels.scores[i] + (problem.scores.stitches[k - 1, m, n] + problem.scores.blocks[k, n])
        stitches, blocks = self.stitches[k - 1, m, n], self.blocks[k, n]
        costs = labels.costs[i] + stitches + blocks
        if self.kind == "memory":
            costs[:, 0] = np.maximum(labels.costs[i, 0], np.maximum(stitches[:, 0], blocks[:, 0]))
        paths = np.concatenate([labels.paths[i], n[:, None]], 1)
        return Labels(scores, costs, paths, labels.sources[i] | self.bits[n], labels.free[i])

    def _thinned(self, labels: Labels, k: int, regions: Sequence[Region] | None) -> Labels:
        """Those that end in block k, can still keep every limit, come right in their sources and are not beaten."""
        least, most, rest = self.problem.min_sources, self.most, self.problem.sets - 1 - k
        number = np.bitwise_count(labels.sources).sum(1)
        missing = np.bitwise_count(self.required & ~labels.sources).sum(1)
        good = (missing <= rest) & (labels.free | ((number + rest >= least) & (number + missing <= most)))
        good &= (labels.costs[:, 1:] + self.least[k, labels.paths[:, -1]] <= self.limits).all(1)
        if regions is not None:
            good &= np.any([region.reached(labels, k) for region in regions], axis=0)
        free = labels.free | ((number >= least) & (number + rest <= most))
        sources = np.where(free[:, None], labels.sources & self.required, labels.sources)
        labels = replace(labels, sources=sources, free=free).rows(np.flatnonzero(good))
        told = number[good, None] if regions is None else labels.sources
        states = np.column_stack([labels.paths[:, -1], labels.free, told]).astype(np.uint64)
        return labels.rows(nondominated(labels.scores, labels.costs, states))


def nondominated(
    scores: Real[np.ndarray, " l"], costs: Real[np.ndarray, "l C"], states: Real[np.ndarray, "l S"] | None = None
) -> Int64[np.ndarray, " kept"]:
    """Ascending positions of those rows that no other row of the same state equals or beats in score and in all costs;
    of equal ones the first. scores: [l], costs: [l, C], states: [l, S], all the same where there are none.
    """
    keys = () if states is None else tuple(states.T)
    order = np.lexsort((*costs.T[::-1], -scores, *keys))  # whatever dominates a row stands before it
    if states is None or not len(order):
        group = np.zeros(len(order), int)
    else:
        among = states[order]
        group = np.concatenate([[0], np.cumsum((among[1:] != among[:-1]).any(1))])
    kept = _cheaper(group, costs[order, 0]) if costs.shape[1] == 1 else _unbeaten(group, costs[order])
    return np.sort(order[kept])


def _cheaper(group: np.ndarray, cost: np.ndarray) -> np.ndarray:
    """bool [l]: whether a row costs less than all rows of its group before it; `group` ascends."""
    place = np.unique(cost, return_inverse=True)[1] - group * (len(cost) + 1)  # below all of the groups before
    cheapest = np.minimum.accumulate(place)
    return np.concatenate([[True], place[1:] < cheapest[:-1]])[: len(cost)]


def _unbeaten(group: np.ndarray, costs: np.ndarray) -> np.ndarray:
    """bool [l]: whether no row of its group before it costs no more of anything; `group` ascends."""
    kept, left = np.zeros(len(costs), bool), np.arange(len(costs))
    for _ in range(ROUNDS):  # the first row left of every group is kept, and beats others
        heads = np.flatnonzero(np.diff(group[left], prepend=-1))
        kept[left[heads]] = True
        first = np.repeat(left[heads], np.diff(heads, append=len(left)))
        left = left[~(costs[first] <= costs[left]).all(1)]
    for rows in np.split(left, np.flatnonzero(np.diff(group[left])) + 1):
        kept[rows[_unbeaten_among(costs[rows])]] = True
    return kept


def _unbeaten_among(costs: np.ndarray) -> np.ndarray:
    """Positions of the rows that cost less of something than each row before them."""
    kept = np.empty(0, int)
    for start in range(0, len(costs), CHUNK):
        new = np.arange(start, min(start + CHUNK, len(costs)))
        new = new[~_dominated(costs[new], costs[kept]).any(1)]
        among = _dominated(costs[new], costs[new]) & (new[None, :] < new[:, None])
        kept = np.concatenate([kept, new[~among.any(1)]])
    return kept


def _dominated(rows: np.ndarray, by: np.ndarray) -> np.ndarray:
    """bool [a, b]: row i costs at least as much of everything as row j of `by`."""
    return np.all(by[None, :, :] <= rows[:, None, :], axis=2)
