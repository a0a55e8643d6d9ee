"""The legal cuts of a partition problem and the scores of their ends, as arrays that all solvers walk through.

Notation: set k = 0..K-1 lies between the boundaries k and k+1 of a network. At boundary k network m has W positions
that some legal cuts pass; those of all networks, one after another, are the P_k rows of that boundary. Cuts are rows:
int [..., N, K+1].
"""

from functools import cached_property

import numpy as np
from jaxtyping import Float, Float64, Int64

from .cover import PartitionProblem
from .sets import Cuts


class CutSpace:
    """spans[k][m]: the rows of network m at boundary k; owner, position: network and cut position of a row, [P_k].

    legal[k][m]: bool [W, W'], whether a block may reach from one row of boundary k to one of boundary k+1.
    """

    def __init__(self, problem: PartitionProblem):
        """`problem` must have passed its check."""
        self.problem = problem
        windows = [_windows(sizes, problem.num_blocks, problem.limit(m)) for m, sizes in enumerate(problem.blocks)]
        boundaries = range(problem.num_blocks + 1)
        widths = [[own[k][1] - own[k][0] for own in windows] for k in boundaries]
        self.owner = [np.repeat(np.arange(len(windows)), widths[k]) for k in boundaries]
        self.position = [np.concatenate([np.arange(*own[k]) for own in windows]) for k in boundaries]
        firsts = [np.concatenate([[0], np.cumsum(widths[k])]).tolist() for k in boundaries]
        self.spans = [[slice(i, j) for i, j in zip(own[:-1], own[1:], strict=True)] for own in firsts]
        self.legal = [[self._legal(k, m) for m in range(len(windows))] for k in boundaries[:-1]]

    @cached_property
    def start(self) -> list[Float[np.ndarray, "_ _"]]:
        """w_start s(member's start, anchor's start) in set k, [P_k, P_k]; see `_scores`."""
        problem = self.problem
        rows = [problem.offsets[owner] + at for owner, at in zip(self.owner[:-1], self.position[:-1], strict=True)]
        return [_scores(problem.starts, own, self.owner[k], problem.weights[0]) for k, own in enumerate(rows)]

    @cached_property
    def end(self) -> list[Float[np.ndarray, "_ _"]]:
        """w_end s(member's end, anchor's end) in set k, [P_k+1, P_k+1]; see `_scores`."""
        problem = self.problem
        rows = [problem.offsets[owner] + at - 1 for owner, at in zip(self.owner[1:], self.position[1:], strict=True)]
        return [_scores(problem.similarity, own, self.owner[k + 1], problem.weights[1]) for k, own in enumerate(rows)]

    @cached_property
    def blocks(self) -> list[Int64[np.ndarray, "2 _"]]:
        """All legal blocks of set k, each of which can be its anchor: int [2, C_k], rows of start and end."""
        found = []
        for k, tables in enumerate(self.legal):
            pairs = [
                np.argwhere(table) + np.array([here.start, there.start])
                for table, here, there in zip(tables, self.spans[k], self.spans[k + 1], strict=True)
            ]
            found.append(np.concatenate(pairs).T)
        return found

    def cuts(self, rows: Int64[np.ndarray, "N bounds"]) -> tuple[Cuts, ...]:
        """The positions of cuts that are rows [N, K+1]."""
        return tuple(tuple(int(self.position[k][row]) for k, row in enumerate(own)) for own in rows)

    def random(self, count: int, generator: np.random.Generator) -> Int64[np.ndarray, "{count} N bounds"]:
        """Random legal cuts [count, N, K+1]; each cut is uniform over what those before it leave possible."""
        rows = np.zeros((count, len(self.problem.names), self.problem.num_blocks + 1), int)
        for m in range(rows.shape[1]):
            rows[:, m, 0] = self.spans[0][m].start
            for k, tables in enumerate(self.legal):
                possible = tables[m][rows[:, m, k] - self.spans[k][m].start]
                step = (generator.random(count) * possible.sum(1)).astype(int)
                rows[:, m, k + 1] = (
                    self.spans[k + 1][m].start + possible.argmax(1) + step
                )  # those possible are in a row
        return rows

    def medoids(
        self, rows: Int64[np.ndarray, "R N bounds"]
    ) -> tuple[Float64[np.ndarray, " R"], Int64[np.ndarray, "R bounds-1"]]:
        """J of cuts [R, N, K+1] with the best anchor of each set, [R], and those anchors as networks, [R, K]."""
        total, anchors = np.zeros(len(rows)), []
        for k in range(self.problem.num_blocks):
            here, there = rows[:, :, k], rows[:, :, k + 1]
            table = self.start[k][here[:, :, None], here[:, None]] + self.end[k][there[:, :, None], there[:, None]]
            sums = table.sum(1)
            anchors.append(sums.argmax(1))
            total += sums.max(1)
        return total, np.stack(anchors, 1)

    def _legal(self, k: int, m: int) -> np.ndarray:
        here, there = self.position[k][self.spans[k][m]], self.position[k + 1][self.spans[k + 1][m]]
        sizes = self.problem.blocks[m][here[:, None], there]
        return (here[:, None] < there) & (sizes <= self.problem.limit(m))


def _windows(sizes: np.ndarray, num_blocks: int, limit: int) -> list[tuple[int, int]]:
    """For each boundary the first position that some legal cuts pass, and the one after the last: all between do.

    sizes: of all blocks (i, j), [L + 1, L + 1]; a block is never smaller than one inside it.
    """
    length = len(sizes) - 1
    last, first = [0], [length]
    for _ in range(num_blocks):
        last.append(int(np.searchsorted(sizes[last[-1]], limit, side="right")) - 1)
        first.append(int((sizes[:, first[-1]] <= limit).argmax()))
    return [(max(k, first[num_blocks - k]), min(last[k], length - (num_blocks - k)) + 1) for k in range(num_blocks + 1)]


def _scores(similarity: np.ndarray, rows: np.ndarray, owner: np.ndarray, weight: float) -> np.ndarray:
    """weight * s between rows, [P, P]; `weight` on the diagonal, -inf elsewhere within a network.

    So a network that owns the anchor of a set can but have the anchor itself in it.
    """
    scores = weight * similarity[np.ix_(rows, rows)]
    scores[owner[:, None] == owner] = -np.inf
    np.fill_diagonal(scores, weight)
    return scores
