"""The cover-set partition (DeRy, section 3.3, Eq. 2-5): problem, solver, result.

Notation: N networks, network m of L_m nodes, similarity s over the outputs of all sum(L_m) nodes; K blocks a network.
A block (m, i, j) holds nodes i+1..j of network m. S(B, B') = s(start, start') + s(end, end'), 2 for a block with
itself. The k-th equivalence set holds the k-th block of every network; its anchor is one of them.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np

from lib.errors import BrickyardError

Block = tuple[int, int, int]
Cuts = tuple[int, ...]


@dataclass(frozen=True)
class PartitionProblem:
    """similarity: [nodes, nodes] in network order; lengths: L_m; num_blocks: K; epsilon: of the size limit.

    start: what stands for a block's start, the activation that enters it (`input`, two images being equal) or the
    output of its first node (`first_output`, the authors' code).
    """

    names: tuple[str, ...]
    similarity: np.ndarray
    lengths: tuple[int, ...]
    num_blocks: int
    epsilon: float
    start: Literal["input", "first_output"] = "input"

    def limit(self, m: int) -> int:
        """Most nodes of a block of network m: floor((1 + eps) ceil(L / K))."""
        return int((1 + self.epsilon) * -(-self.lengths[m] // self.num_blocks) + 1e-9)

    def check(self) -> None:
        """Raises BrickyardError naming the first network that has too few nodes."""
        for name, length in zip(self.names, self.lengths, strict=True):
            if length < self.num_blocks:
                raise BrickyardError(
                    f"partition.num_blocks = {self.num_blocks}: {name} has {length} nodes; "
                    f"use at most {length} or leave it out"
                )

    @cached_property
    def offsets(self) -> np.ndarray:
        """Row of each network's first node in `similarity`, [N]."""
        return np.concatenate([[0], np.cumsum(self.lengths)[:-1]])

    @cached_property
    def starts(self) -> np.ndarray:
        """s between block starts, [P, P]: position offset_m + i stands for a block that begins with node i+1."""
        if self.start == "first_output":
            return self.similarity
        first = np.isin(np.arange(len(self.similarity)), self.offsets)
        entering = np.roll(np.arange(len(self.similarity)), 1)
        shifted = self.similarity[np.ix_(entering, entering)]
        return np.where(first[:, None] | first[None, :], (first[:, None] & first[None, :]).astype(float), shifted)


@dataclass(frozen=True)
class Partition:
    """cuts[m]: K+1 positions 0..L_m; anchors[k]: the network whose block is the anchor of set k; objective: J.

    bound: a proven upper bound on J, None where the solver proves none; random: J_rand, the mean over random legal
    cuts with medoid anchors.
    """

    cuts: tuple[Cuts, ...]
    anchors: tuple[int, ...]
    objective: float
    random: float
    bound: float | None
    status: str

    @property
    def gap_closed(self) -> float | None:
        """(J - J_rand) / (J* - J_rand), in percent; None without a bound that stands for J*."""
        if self.bound is None:
            return None
        return 100.0 if self.bound <= self.random else 100 * (self.objective - self.random) / (self.bound - self.random)

    def to_dict(self, problem: PartitionProblem, nodes: list[str]) -> dict[str, Any]:
        """For JSON, everything by name. nodes: the names of all nodes, in network order."""
        models: dict[str, Any] = {}
        for m, (name, cuts) in enumerate(zip(problem.names, self.cuts, strict=True)):
            own = nodes[problem.offsets[m] : problem.offsets[m] + problem.lengths[m]]
            blocks = []
            for k, anchor in enumerate(self.anchors):
                theirs = self.cuts[anchor]
                block, other = (m, cuts[k], cuts[k + 1]), (anchor, theirs[k], theirs[k + 1])
                similarity = block_similarity(problem, block, other)
                blocks.append({"set": k, "nodes": own[cuts[k] : cuts[k + 1]], "similarity_to_anchor": similarity})
            models[name] = {"cuts": list(cuts), "limit": problem.limit(m), "blocks": blocks}
        return {
            "num_blocks": problem.num_blocks,
            "objective": self.objective,
            "random": self.random,
            "bound": self.bound,
            "status": self.status,
            "anchors": [problem.names[m] for m in self.anchors],
            "models": models,
        }


def solve(problem: PartitionProblem, starts: int, random_partitions: int, seed: int) -> Partition:
    """Maximises J by block-coordinate ascent from `starts` random legal partitions.

    Each step is exact and never lowers J: the anchors of all sets are recomputed as medoids, then one network after
    another is cut anew by a dynamic program over its cut positions. Raises BrickyardError where no legal cuts exist.

    Differs from the paper: exact cuts instead of Kernighan-Lin swaps; sets are ordered by stage and hold one block of
    every network.
    """
    problem.check()
    generator = np.random.default_rng(seed)
    best: tuple[float, list[Cuts], list[int]] | None = None
    for _ in range(starts):
        cuts = [_random_cuts(problem, m, generator) for m in range(len(problem.lengths))]
        value, cuts, anchors = _ascend(problem, cuts)
        if best is None or value > best[0] + 1e-12:
            best = (value, cuts, anchors)
    assert best is not None
    random = [
        _medoids(problem, [_random_cuts(problem, m, generator) for m in range(len(problem.lengths))])[0]
        for _ in range(random_partitions)
    ]
    return Partition(
        cuts=tuple(best[1]),
        anchors=tuple(best[2]),
        objective=best[0],
        random=float(np.mean(random)),
        bound=None,
        status=f"local optimum, best of {starts} starts",
    )


def block_similarity(problem: PartitionProblem, a: Block, b: Block) -> float:
    """S of two blocks (m, i, j)."""
    if a == b:
        return 2.0
    (m, i, j), (n, p, q) = a, b
    offset_m, offset_n = int(problem.offsets[m]), int(problem.offsets[n])
    return float(problem.starts[offset_m + i, offset_n + p] + problem.similarity[offset_m + j - 1, offset_n + q - 1])


def _ascend(problem: PartitionProblem, cuts: list[Cuts]) -> tuple[float, list[Cuts], list[int]]:
    value, anchors = _medoids(problem, cuts)
    while True:
        for m in range(len(cuts)):
            cuts = [*cuts[:m], _best_cuts(problem, m, cuts, anchors), *cuts[m + 1 :]]
        new_value, anchors = _medoids(problem, cuts)
        if new_value <= value + 1e-12:
            return new_value, cuts, anchors
        value = new_value


def _rows(problem: PartitionProblem, cuts: list[Cuts]) -> tuple[np.ndarray, np.ndarray]:
    """Rows of all blocks' starts and ends in the similarity matrices, [N, K] each."""
    positions = np.array(cuts) + problem.offsets[:, None]
    return positions[:, :-1], positions[:, 1:] - 1


def _medoids(problem: PartitionProblem, cuts: list[Cuts]) -> tuple[float, list[int]]:
    """J with the best anchor of each set, and the anchors."""
    start, end = _rows(problem, cuts)
    total, anchors = 0.0, []
    for k in range(problem.num_blocks):
        table = problem.starts[np.ix_(start[:, k], start[:, k])] + problem.similarity[np.ix_(end[:, k], end[:, k])]
        np.fill_diagonal(table, 2.0)
        sums = table.sum(0)
        anchors.append(int(sums.argmax()))
        total += float(sums.max())
    return total, anchors


def _best_cuts(problem: PartitionProblem, m: int, cuts: list[Cuts], anchors: list[int]) -> Cuts:
    """The cuts of network m that maximise J, all other cuts and all anchors held.

    A block's weight splits into one term of its start and one of its end. Against an anchor in another network it is
    S(block, anchor); where the anchor is network m's own block it is 2 + the sum of S(other members, block).
    """
    length, limit, num_blocks = problem.lengths[m], problem.limit(m), problem.num_blocks
    rows = np.arange(length) + problem.offsets[m]
    start, end = _rows(problem, cuts)
    others = [n for n in range(len(cuts)) if n != m]
    best = np.full((num_blocks + 1, length + 1), -np.inf)
    best[0, 0] = 0.0
    cut_before = np.zeros((num_blocks + 1, length + 1), int)
    for k in range(num_blocks):
        against = others if anchors[k] == m else [anchors[k]]
        at_start = problem.starts[np.ix_(rows, start[against, k])].sum(1)
        at_end = problem.similarity[np.ix_(rows, end[against, k])].sum(1) + (2.0 if anchors[k] == m else 0.0)
        for j in range(1, length + 1):
            first = max(0, j - limit)
            reach = best[k, first:j] + at_start[first:j]
            i = int(reach.argmax())
            best[k + 1, j], cut_before[k + 1, j] = reach[i] + at_end[j - 1], first + i
    positions = [length]
    for k in range(num_blocks, 0, -1):
        positions.append(int(cut_before[k, positions[-1]]))
    return tuple(reversed(positions))


def _random_cuts(problem: PartitionProblem, m: int, generator: np.random.Generator) -> Cuts:
    """Legal cuts of network m; the size of one block after another is uniform over what the rest leaves possible."""
    limit, left = problem.limit(m), problem.lengths[m]
    positions = [0]
    for remaining in range(problem.num_blocks - 1, -1, -1):
        smallest, largest = max(1, left - remaining * limit), min(limit, left - remaining)
        size = int(generator.integers(smallest, largest + 1))
        positions.append(positions[-1] + size)
        left -= size
    return tuple(positions)
