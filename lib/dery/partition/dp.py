"""The partition by ascent over anchors with exact dynamic programs.

With the anchors of all sets given, as blocks that need not belong to any cuts yet, every network's best cuts are a
dynamic program of its own, since S is a sum of a start and an end term. So J is a function of the K anchors alone,
and the best anchor of one set, all others held and *all networks cut anew for each candidate*, is found exactly: what
a block of that set is worth splits into the best way to reach it, the block, and the best way on from it.
"""

import numpy as np
from jaxtyping import Float64, Int64

from .space import CutSpace

Anchor = tuple[int, int]  # rows of its start and its end


def solve(space: CutSpace, starts: int, generator: np.random.Generator) -> Int64[np.ndarray, "N bounds"]:
    """The best cuts, rows [N, K+1], of `starts` ascents, the first from each set's own best anchor, then random ones.

    Differs from the paper: exact programs over cuts and anchors instead of exchanging nodes.
    """
    sets = range(space.problem.num_blocks)
    alone = [values(space, k, np.zeros(len(space.owner[k])), np.zeros(len(space.owner[k + 1]))) for k in sets]
    drawn = [[block(space, k, int(value.argmax())) for k, value in enumerate(alone)]]
    for rows in space.random(starts - 1, generator):
        owners = generator.integers(len(space.problem.names), size=len(sets))
        drawn.append([(int(rows[m, k]), int(rows[m, k + 1])) for k, m in enumerate(owners)])
    ascents = [ascend(space, anchors, generator.permutation(len(sets)).tolist()) for anchors in drawn]
    return cut(space, max(ascents, key=lambda ascent: ascent[0])[1])


def values(
    space: CutSpace,
    k: int,
    before: Float64[np.ndarray, " p"],
    after: Float64[np.ndarray, " q"],
    candidates: Int64[np.ndarray, "2 C"] | None = None,
) -> Float64[np.ndarray, " C"]:
    """What each candidate anchor [2, C] of set k gives, [C]: the sum over the networks of their best block's worth.

    A block's worth is its score against the anchor, plus `before` [P_k] at its start and `after` [P_k+1] at its end.
    Without candidates, every legal block is one.
    """
    candidates = space.blocks[k] if candidates is None else candidates
    starts, which = np.unique(candidates[0], return_inverse=True)
    total = np.zeros(candidates.shape[1])
    for here, there, legal in zip(space.spans[k], space.spans[k + 1], space.legal[k], strict=True):
        reach = before[here, None] + space.start[k][here, starts]
        best = np.where(legal[:, :, None], reach[:, None], -np.inf).max(0)
        total += (best[:, which] + (after[there, None] + space.end[k][there, candidates[1]])).max(0)
    return total


def ascend(space: CutSpace, anchors: list[Anchor], order: list[int]) -> tuple[float, list[Anchor]]:
    """Replaces the anchor of one set after another by the best one until none can be bettered; J and the anchors.

    J is -inf where a network that owns several anchors cannot have them all, and none of them alone mends it.
    """
    best = value(space, anchors)
    while True:
        known = best
        for k in order:
            before, after = _before(space, anchors, k), _after(space, anchors, k + 1)[k + 1]
            found = values(space, k, before, after)
            i = int(found.argmax())
            if found[i] > best + 1e-12:
                best, anchors = float(found[i]), [*anchors[:k], block(space, k, i), *anchors[k + 1 :]]
        if best <= known + 1e-12:
            return best, anchors


def value(space: CutSpace, anchors: list[Anchor]) -> float:
    """J of the best cuts for given anchors, -inf where none have them all."""
    return float(_after(space, anchors, 0)[0].sum())


def block(space: CutSpace, k: int, i: int) -> Anchor:
    """The i-th legal block of set k."""
    start, end = space.blocks[k][:, i]
    return int(start), int(end)


def cut(space: CutSpace, anchors: list[Anchor]) -> Int64[np.ndarray, "N bounds"]:
    """The best cuts for given anchors, rows [N, K+1]."""
    after = _after(space, anchors, 0)
    rows = np.zeros((len(space.problem.names), len(anchors) + 1), int)
    for m in range(len(rows)):
        rows[m, 0] = space.spans[0][m].start
        for k, (_, end) in enumerate(anchors):
            there = space.spans[k + 1][m]
            possible = space.legal[k][m][rows[m, k] - space.spans[k][m].start]
            worth = np.where(possible, space.end[k][there, end] + after[k + 1][there], -np.inf)
            rows[m, k + 1] = there.start + int(worth.argmax())
    return rows


def _before(space: CutSpace, anchors: list[Anchor], k: int) -> np.ndarray:
    """The best score of each network's blocks up to a row of boundary k, [P_k]."""
    reached = np.zeros(len(space.owner[0]))
    for j, (start, end) in enumerate(anchors[:k]):
        reach, reached = reached + space.start[j][:, start], np.empty(len(space.owner[j + 1]))
        for here, there, legal in zip(space.spans[j], space.spans[j + 1], space.legal[j], strict=True):
            reached[there] = np.where(legal, reach[here, None], -np.inf).max(0)
        reached += space.end[j][:, end]
    return reached


def _after(space: CutSpace, anchors: list[Anchor], k: int) -> dict[int, np.ndarray]:
    """The best score of each network's blocks from a row of a boundary on, for the boundaries from k to K."""
    last = len(anchors)
    found = {last: np.zeros(len(space.owner[last]))}
    for j in range(last - 1, k - 1, -1):
        start, end = anchors[j]
        reach, reached = found[j + 1] + space.end[j][:, end], np.empty(len(space.owner[j]))
        for here, there, legal in zip(space.spans[j], space.spans[j + 1], space.legal[j], strict=True):
            reached[here] = np.where(legal, reach[there], -np.inf).max(1)
        found[j] = reached + space.start[j][:, start]
    return found
