"""Cuts at equal relative depths: no sets are looked for, a candidate may change networks at any of them. Ours, not in
the paper.
"""

import numpy as np
from jaxtyping import Int64

from .space import CutSpace


def solve(space: CutSpace) -> Int64[np.ndarray, "N bounds"]:
    """The legal cuts of each network whose depths are nearest to k / K of its size: rows with the least sum of squared
    differences, of equal ones the first; by dynamic programming over the boundaries.
    """
    problem, found = space.problem, np.zeros((len(space.problem.names), space.problem.num_blocks + 1), int)
    for m, sizes in enumerate(problem.blocks):
        depths = sizes[0] / max(1, int(sizes[0, -1]))
        total, before = np.zeros(1), list[np.ndarray]()
        for k, tables in enumerate(space.legal, start=1):
            away = depths[space.position[k][space.spans[k][m]]] - k / problem.num_blocks
            reached = np.where(tables[m], total[:, None], np.inf)
            before.append(reached.argmin(0))
            total = reached.min(0) + away**2
        row = 0  # the end of the network, its only position there
        for k in range(problem.num_blocks, -1, -1):
            found[m, k] = space.spans[k][m].start + row
            row = int(before[k - 1][row]) if k else row
    return found
