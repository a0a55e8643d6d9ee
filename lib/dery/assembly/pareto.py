"""Score against each budget: all candidates that no other beats in both, by one sweep through the graph."""

from collections import defaultdict
from dataclasses import dataclass, replace

import numpy as np

from lib.dery.assembly import bounds
from lib.dery.assembly.problem import GRAIN, AssemblyProblem, Candidate, Kind, Path

CHUNK = 256  # rows that are compared with one another at once


@dataclass(frozen=True)
class Front:
    """Prefixes that end in the same block: scores [l], costs [l, 1 + R] (the swept kind first), paths [l, k]."""

    scores: np.ndarray
    costs: np.ndarray
    paths: np.ndarray

    def rows(self, index: np.ndarray) -> "Front":
        """Some of them."""
        return Front(self.scores[index], self.costs[index], self.paths[index])


def frontier(problem: AssemblyProblem, kind: Kind) -> list[Candidate]:
    """Candidates that no other beats in both score and `kind` of cost, from the cheapest to the dearest.

    The limit on `kind` is lifted, all other limits hold. Exact: label setting over the sets, in which a prefix goes
    only if another one that ends in the same block with no lower score and no more of any cost that counts can go on
    in every way that it can.
    """
    sweep = _Sweep(replace(problem, limits={k: v for k, v in problem.limits.items() if k != kind}), kind)
    fronts = sweep.starts()
    for k in range(1, problem.sets):
        fronts = sweep.step(fronts, k)
    found = [front for (_, sources), front in fronts.items() if sweep.may_end(sources)]
    if not found:
        return []
    best = _nondominated(_joined([Front(f.scores, f.costs[:, :1], f.paths) for f in found]))
    paths: list[Path] = [tuple(row) for row in best.paths.tolist()]
    return sorted((Candidate.of(problem, path) for path in paths), key=lambda c: c.score)


class _Sweep:
    """One set after another. A state is the last block and the sources, as a bit set; where their number can no longer
    go wrong only the required ones are kept of it, inverted so that it is negative.
    """

    def __init__(self, problem: AssemblyProblem, kind: Kind) -> None:
        self.problem, self.kind = problem, kind
        self.required = sum(1 << m for m in problem.required)
        self.most = problem.sets if problem.max_sources is None else problem.max_sources
        kinds = problem.additive
        self.limits = np.floor(np.array([problem.limits[k] for k in kinds]) * GRAIN) / GRAIN
        tables = [problem.costs[k] for k in (kind, *kinds)]
        self.blocks = np.stack([table.blocks for table in tables], -1)
        self.stitches = np.stack([table.stitches for table in tables], -1)
        self.least = [bounds.least(problem, k) for k in kinds]

    def starts(self) -> dict[tuple[int, int], Front]:
        """The first block alone."""
        problem, fronts = self.problem, {}
        for m in np.flatnonzero(problem.open_blocks[0]).tolist():
            sources = self._kept(1 << m, problem.sets - 1)
            front = self._affordable(Front(problem.scores.blocks[0, [m]], self.blocks[0, [m]], np.array([[m]])), 0)
            if sources is not None and len(front.scores):
                fronts[m, sources] = front
        return fronts

    def step(self, fronts: dict[tuple[int, int], Front], k: int) -> dict[tuple[int, int], Front]:
        """One more block to every prefix."""
        problem, longer = self.problem, defaultdict[tuple[int, int], list[Front]](list)
        for (m, before), front in fronts.items():
            for n in np.flatnonzero(problem.open_blocks[k] & problem.open_stitches[k - 1, m]).tolist():
                sources = self._kept(before, problem.sets - 1 - k, n)
                if sources is None:
                    continue
                gain = problem.scores.stitches[k - 1, m, n] + problem.scores.blocks[k, n]
                costs = front.costs + self.stitches[k - 1, m, n] + self.blocks[k, n]
                if self.kind == "memory":
                    dearest = max(self.stitches[k - 1, m, n, 0], self.blocks[k, n, 0])
                    costs[:, 0] = np.maximum(front.costs[:, 0], dearest)
                paths = np.concatenate([front.paths, np.full((len(front.paths), 1), n)], 1)
                affordable = self._affordable(Front(front.scores + gain, costs, paths), k)
                if len(affordable.scores):
                    longer[n, sources].append(affordable)
        return {state: _nondominated(_joined(parts)) for state, parts in longer.items()}

    def may_end(self, sources: int) -> bool:
        """Whether a whole path with these sources has the right ones."""
        return not self.required & ~(~sources if sources < 0 else sources)

    def _kept(self, before: int, rest: int, n: int | None = None) -> int | None:
        """The state's sources after block n, None where they cannot come right in `rest` more blocks."""
        bit = 0 if n is None else 1 << n
        if before < 0:
            sources = ~before | (bit & self.required)
            return ~sources if (self.required & ~sources).bit_count() <= rest else None
        sources = before | bit
        number, missing = sources.bit_count(), (self.required & ~sources).bit_count()
        if number + rest < self.problem.min_sources or missing > rest or number + missing > self.most:
            return None
        free = number >= self.problem.min_sources and number + rest <= self.most
        return ~(sources & self.required) if free else sources

    def _affordable(self, front: Front, k: int) -> Front:
        """Those prefixes that end in block k and can still keep every limit."""
        if not len(self.limits):
            return front
        least = np.array([table[k, front.paths[0, -1]] for table in self.least])
        return front.rows(np.flatnonzero((front.costs[:, 1:] + least <= self.limits).all(1)))


def _joined(fronts: list[Front]) -> Front:
    return Front(*(np.concatenate([getattr(f, name) for f in fronts]) for name in ("scores", "costs", "paths")))


def _nondominated(front: Front) -> Front:
    """Those that no other one equals or beats in score and in all costs; of equal ones the first by path."""
    keys = (*front.paths.T[::-1], *front.costs.T[::-1], -front.scores)
    order = np.lexsort(keys)  # whatever dominates a row stands before it
    costs = front.costs[order]
    if costs.shape[1] == 1:
        cheapest = np.concatenate([[np.inf], np.minimum.accumulate(costs[:-1, 0])])
        return front.rows(order[costs[:, 0] < cheapest])
    kept = np.empty(0, int)
    for start in range(0, len(order), CHUNK):
        new = np.arange(start, min(start + CHUNK, len(order)))
        new = new[~_dominated(costs[new], costs[kept]).any(1)]
        among = _dominated(costs[new], costs[new]) & (new[None, :] < new[:, None])
        kept = np.concatenate([kept, new[~among.any(1)]])
    return front.rows(order[kept])


def _dominated(rows: np.ndarray, by: np.ndarray) -> np.ndarray:
    """bool [a, b]: row i costs at least as much of everything as row j of `by`."""
    return np.all(by[None, :, :] <= rows[:, None, :], axis=2)
