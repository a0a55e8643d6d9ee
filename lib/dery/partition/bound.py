"""An upper bound on J by Lagrangian relaxation, and the anchors that can still do better than a known partition.

What ties the sets together is that a network's block k+1 starts where its block k ends. Without that, every set is on
its own and its best anchor is found by going through all of them. A price lambda on each row of the inner boundaries,
paid by the block that starts there and received by the one that ends there, leaves J of real cuts as it is; so for
every lambda the sum of the sets' optima is an upper bound, and the subgradient method makes it small. A candidate
anchor of set k bounds all partitions that have it: its own value plus the best of the other sets. On the way, the
anchors of every round are good starts for the ascent.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from . import dp
from .dp import Anchor
from .space import CutSpace

ROUNDS = 300  # of the subgradient method, at most
PATIENCE = 10  # rounds without a lower bound before the step is halved
TOLERANCE = 1e-8  # relative to J


@dataclass(frozen=True)
class Relaxation:
    """rows: the best known cuts, [N, K+1]; bound: on J of every partition.

    candidates: for each set, int [2, C], the anchors of these cuts and of all that are better.
    """

    rows: Int64[np.ndarray, "N bounds"]
    bound: float
    candidates: list[Int64[np.ndarray, "2 _"]]


def relax(space: CutSpace, rows: Int64[np.ndarray, "N bounds"]) -> Relaxation:
    """The bound, better cuts than the given ones if a round came upon them, and the anchors that remain."""
    objective = float(space.medoids(rows[None])[0][0])
    candidates = space.blocks
    prices = [np.zeros(len(owner)) for owner in space.owner]
    best, best_prices = np.inf, prices
    step, waited = 1.0, 0
    for _ in range(ROUNDS):
        found = [dp.values(space, k, -prices[k], prices[k + 1], own) for k, own in enumerate(candidates)]
        anchors: list[Anchor] = []
        for own, value in zip(candidates, found, strict=True):
            start, end = own[:, value.argmax()]
            anchors.append((int(start), int(end)))
        bound = sum(float(value.max()) for value in found)
        if dp.value(space, anchors) > objective + 1e-12:
            objective, better = dp.ascend(space, anchors, list(range(len(anchors))))
            rows = dp.cut(space, better)
        known = objective - TOLERANCE * max(1.0, abs(objective))
        candidates = [
            own[:, bound - value.max() + value >= known] for own, value in zip(candidates, found, strict=True)
        ]
        waited += 1
        if bound < best:
            best, best_prices, waited = bound, prices, 0
        gradient = _gradient(space, prices, anchors)
        length = sum(float(own @ own) for own in gradient)
        if best <= objective or length == 0:
            break
        if waited == PATIENCE:
            step, waited, prices = step / 2, 0, best_prices
        scale = step * (bound - objective) / length
        prices = [price - scale * own for price, own in zip(prices, gradient, strict=True)]
    return Relaxation(rows, max(best, objective), candidates)


def _gradient(space: CutSpace, prices: list[np.ndarray], anchors: list[Anchor]) -> list[np.ndarray]:
    """How many blocks more end than start at each row, when every set has its best blocks for its anchor."""
    counts = [np.zeros(len(owner)) for owner in space.owner]
    for k, (start, end) in enumerate(anchors):
        at_start, at_end = space.start[k][:, start] - prices[k], space.end[k][:, end] + prices[k + 1]
        for here, there, legal in zip(space.spans[k], space.spans[k + 1], space.legal[k], strict=True):
            worth = np.where(legal, at_start[here, None] + at_end[there], -np.inf)
            i, j = np.unravel_index(worth.argmax(), worth.shape)
            counts[k][here.start + i] -= 1
            counts[k + 1][there.start + j] += 1
    counts[0][:] = counts[-1][:] = 0  # all blocks of the first set start at the image
    return counts
