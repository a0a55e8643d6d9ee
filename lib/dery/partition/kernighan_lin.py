"""The paper's alternating scheme (DeRy, section 3.3): exchange nodes between neighbouring blocks, then re-centre.

All starts go side by side: rows [R, N, K+1].
"""

import numpy as np
from jaxtyping import Int64

from .space import CutSpace


def solve(space: CutSpace, starts: int, generator: np.random.Generator) -> Int64[np.ndarray, "N bounds"]:
    """The best cuts, rows [N, K+1], of `starts` descents from random legal cuts.

    Differs from the authors' code: every network keeps its own size limit, sets are ordered by stage, a gain counts
    what a moved anchor does to the rest of its set, and the best result is kept as it was. So J never falls.
    """
    rows = space.random(starts, generator)
    best, anchors = space.medoids(rows)
    while True:
        for m in range(rows.shape[1]):
            for k in range(1, rows.shape[2] - 1):
                for step in (1, -1):
                    rows = _exchange(space, rows, anchors, m, k, step)
        value, anchors = space.medoids(rows)
        if (value <= best + 1e-12).all():
            return rows[value.argmax()]
        best = value


def _exchange(space: CutSpace, rows: np.ndarray, anchors: np.ndarray, m: int, k: int, step: int) -> np.ndarray:
    """Moves one node of network m across boundary k in those starts where it is legal and raises J."""
    moved = rows.copy()
    moved[:, m, k] += step
    legal = _legal(space, moved, m, k - 1) & _legal(space, moved, m, k)
    moved = np.where(legal[:, None, None], moved, rows)
    gains = _at(space, moved, anchors, k) > _at(space, rows, anchors, k) + 1e-12
    return np.where(gains[:, None, None], moved, rows)


def _legal(space: CutSpace, rows: np.ndarray, m: int, k: int) -> np.ndarray:
    """Whether network m's block of set k is legal, [R]."""
    table = space.legal[k][m]
    here, there = rows[:, m, k] - space.spans[k][m].start, rows[:, m, k + 1] - space.spans[k + 1][m].start
    inside = (here >= 0) & (here < table.shape[0]) & (there >= 0) & (there < table.shape[1])
    return inside & table[np.where(inside, here, 0), np.where(inside, there, 0)]


def _at(space: CutSpace, rows: np.ndarray, anchors: np.ndarray, k: int) -> np.ndarray:
    """The part of J that depends on boundary k: ends of the set before it, starts of the set after it, [R]."""
    at, start = rows[:, :, k], np.arange(len(rows))
    ends = space.end[k - 1][at, at[start, anchors[:, k - 1], None]]
    return ends.sum(1) + space.start[k][at, at[start, anchors[:, k], None]].sum(1)
