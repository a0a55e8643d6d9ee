"""The problem of the cover-set partition (DeRy, section 3.3, Eq. 2-5).

Notation: N networks, network m of L_m nodes, similarity s over the outputs of all sum(L_m) nodes; K blocks a network.
A block (m, i, j) holds nodes i+1..j of network m. S(B, B') = w_start s(start, start') + w_end s(end, end'), and
w_start + w_end for a block with itself. The k-th equivalence set holds the k-th block of every network; its anchor is
one of them. J is the sum over all blocks of S(block, anchor of its set).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from math import ceil, floor
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int64, Integer

from ...base.errors import BrickyardError
from ...network.blocks import Block
from ...params.partition import Partition as Params
from .sets import Cuts, EquivalenceSet, Member, Partition, Size

Start = Literal["input", "first_output"]


@dataclass(frozen=True)
class PartitionProblem:
    """N networks that are to be cut into K blocks each, so that J is largest.

    names: of the networks.
    nodes: the names of theirs, a tuple a network.
    similarity: [nodes, nodes] in network order, s(row, column).
    sizes: of every node, a tuple a network, in `size`.
    num_blocks: K.
    epsilon: of the size limit.
    start: what stands for a block's start: the activation that enters it (`input`, two images being equal), or the
        output of its first node (`first_output`, the authors' code).
    weights: w_start, w_end.
    together: by network, where nodes have weights or operations in common, the sizes of its blocks (i, j), [L_m + 1,
        L_m + 1]; else they are sums.
    """

    names: tuple[str, ...]
    nodes: tuple[tuple[str, ...], ...]
    similarity: Float[np.ndarray, "L L"]
    sizes: tuple[tuple[int, ...], ...]
    num_blocks: int
    epsilon: float
    size: Size = "nodes"
    start: Start = "input"
    weights: tuple[float, float] = (1.0, 1.0)
    together: Mapping[str, Integer[np.ndarray, "_ _"]] = field(default_factory=dict)

    @classmethod
    def of(
        cls, nodes: Sequence[dict[str, Any]], similarity: Float[np.ndarray, "L L"], params: Params
    ) -> "PartitionProblem":
        """The problem of what stage `similarity` left: nodes.json and the matrix [nodes, nodes]."""
        sizes = node_sizes(nodes, params.size)
        return cls(
            names=tuple(sizes),
            nodes=tuple(tuple(node["node"] for node in nodes if node["model"] == name) for name in sizes),
            similarity=similarity,
            sizes=tuple(sizes.values()),
            num_blocks=params.num_blocks,
            epsilon=params.epsilon,
            size=params.size,
            start=params.start,
            weights=(params.weights.start, params.weights.end),
            together=block_sizes(nodes, params.size),
        )

    @cached_property
    def lengths(self) -> tuple[int, ...]:
        """L_m, the number of nodes of each network."""
        return tuple(len(sizes) for sizes in self.sizes)

    @cached_property
    def offsets(self) -> Integer[np.ndarray, " N"]:
        """Row of each network's first node in `similarity`, [N]."""
        return np.concatenate([[0], np.cumsum(self.lengths)[:-1]])

    @cached_property
    def blocks(self) -> tuple[Integer[np.ndarray, "_ _"], ...]:
        """For each network the sizes of all blocks (i, j), int [L_m + 1, L_m + 1]; below 0 where j < i."""
        edges = [np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)]) for sizes in self.sizes]
        return tuple(self.together.get(name, own - own[:, None]) for name, own in zip(self.names, edges, strict=True))

    @cached_property
    def starts(self) -> Float[np.ndarray, "L L"]:
        """s between block starts, [nodes, nodes]: row offset_m + i stands for a block that begins with node i+1."""
        if self.start == "first_output":
            return self.similarity
        first = np.isin(np.arange(len(self.similarity)), self.offsets)
        entering = np.roll(np.arange(len(self.similarity)), 1)
        shifted = self.similarity[np.ix_(entering, entering)]
        return np.where(first[:, None] | first[None, :], (first[:, None] & first[None, :]).astype(float), shifted)

    def limit(self, m: int, num_blocks: int | None = None) -> int:
        """Largest size of a block of network m: floor((1 + eps) ceil(|M| / K)), eps taken as the decimal it is.

        Differs from the paper: less than (1 + eps) |M| / K there, which some networks cannot be cut by at all.
        """
        return floor((1 + Fraction(self.epsilon).limit_denominator(10**9)) * self._share(m, num_blocks))

    def check(self) -> None:
        """Raises BrickyardError where no legal cuts exist, or where the similarity is not that of these nodes.

        It names the network with the fewest nodes or the one that needs the largest epsilon, and what would do: the
        smallest epsilon, the largest number of blocks.
        """
        nodes = sum(self.lengths)
        if self.similarity.shape != (nodes, nodes) or not np.isfinite(self.similarity).all():
            raise BrickyardError(
                f"similarity: {list(self.similarity.shape)} values for {nodes} nodes, which must be "
                f"[{nodes}, {nodes}] and finite; dvc repro similarity"
            )
        m, least = min(enumerate(self.lengths), key=lambda pair: pair[1])
        if least < self.num_blocks:
            remedy = f"use at most {least} or leave it out" if least > 1 else "leave it out"
            raise BrickyardError(
                f"partition.num_blocks = {self.num_blocks}: {self.names[m]} has "
                f"{least} node{'' if least == 1 else 's'}; {remedy}"
            )
        blocks = [_smallest_largest_block(own, self.num_blocks) for own in self.blocks]
        if all(block <= self.limit(m) for m, block in enumerate(blocks)):
            return
        needed = [Fraction(block, max(1, self._share(m))) - 1 for m, block in enumerate(blocks)]
        worst = max(range(len(needed)), key=needed.__getitem__)
        fewer = next((k for k in range(self.num_blocks - 1, 1, -1) if self._feasible(k)), None)
        raise BrickyardError(
            f"partition.epsilon = {self.epsilon}: cut into {self.num_blocks} blocks, {self.names[worst]} has one of at "
            f"least {blocks[worst]} {self.size}, {self.limit(worst)} are allowed; use epsilon >= "
            f"{ceil(needed[worst] * 10**4) / 10**4}" + (f" or num_blocks = {fewer}" if fewer else "")
        )

    def similarity_of(self, a: tuple[int, int, int], b: tuple[int, int, int]) -> float:
        """S of two blocks (m, i, j), `b` being the anchor."""
        at_start, at_end = self.weights
        if a == b:
            return at_start + at_end
        (m, i, j), (n, p, q) = a, b
        row, column = int(self.offsets[m]), int(self.offsets[n])
        return float(
            at_start * self.starts[row + i, column + p] + at_end * self.similarity[row + j - 1, column + q - 1]
        )

    def objective(self, cuts: Sequence[Cuts], anchors: Sequence[int]) -> float:
        """J by its definition; anchors: the network that anchors each set."""
        return sum(
            self.similarity_of((m, own[k], own[k + 1]), (anchor, cuts[anchor][k], cuts[anchor][k + 1]))
            for k, anchor in enumerate(anchors)
            for m, own in enumerate(cuts)
        )

    def violations(self, cuts: Sequence[Cuts]) -> int:
        """How many blocks are empty or larger than their network's limit, and networks without K blocks or a node."""
        found = 0
        for m, own in enumerate(cuts):
            found += len(own) != self.num_blocks + 1 or own[0] != 0 or own[-1] != self.lengths[m]
            for i, j in zip(own[:-1], own[1:], strict=True):
                found += j <= i or int(self.blocks[m][i, j]) > self.limit(m)
        return found

    def partition(
        self,
        cuts: Sequence[Cuts],
        anchors: Sequence[int],
        random: float,
        bound: float | None = None,
        status: str = "",
    ) -> Partition:
        """The solution with these cuts, everything by name.

        cuts: of each network.
        anchors: the network that anchors each set.
        random: J_rand.
        bound: a proven upper bound on J, if there is one.
        status: how the search ended.
        """
        sets = []
        for k, anchor in enumerate(anchors):
            members = []
            for m, own in enumerate(cuts):
                i, j = own[k], own[k + 1]
                similar = self.similarity_of((m, i, j), (anchor, cuts[anchor][k], cuts[anchor][k + 1]))
                members.append(
                    Member(Block(self.names[m], i, j), self.nodes[m][i:j], int(self.blocks[m][i, j]), similar)
                )
            sets.append(EquivalenceSet(self.names[anchor], tuple(members)))
        return Partition(
            size=self.size,
            weights=self.weights,
            objective=self.objective(cuts, anchors),
            bound=bound,
            random=random,
            violations=self.violations(cuts),
            status=status,
            limits={name: self.limit(m) for m, name in enumerate(self.names)},
            sets=tuple(sets),
        )

    def _share(self, m: int, num_blocks: int | None = None) -> int:
        """ceil(|M| / K)."""
        return -(-int(self.blocks[m][0, -1]) // (num_blocks or self.num_blocks))

    def _feasible(self, num_blocks: int) -> bool:
        return all(
            _smallest_largest_block(own, num_blocks) <= self.limit(m, num_blocks) for m, own in enumerate(self.blocks)
        )


def node_sizes(nodes: Sequence[dict[str, Any]], size: Size) -> dict[str, tuple[int, ...]]:
    """The node sizes of every network from the records {model, node, params, macs} of all nodes, in their order.

    Raises BrickyardError where a record lacks the size that is asked for.
    """
    sizes: dict[str, list[int]] = {}
    for node in nodes:
        if size != "nodes" and size not in node:
            raise BrickyardError(
                f"partition.size = {size}: nodes.json has no {size} of node {node['node']} of {node['model']}; "
                "dvc repro similarity, or use size: nodes"
            )
        sizes.setdefault(node["model"], []).append(1 if size == "nodes" else int(node[size]))
    return {name: tuple(own) for name, own in sizes.items()}


def block_sizes(nodes: Sequence[dict[str, Any]], size: Size) -> dict[str, Int64[np.ndarray, "_ _"]]:
    """The sizes of all blocks of the networks whose nodes have something in common, from the same records."""
    since: dict[str, list[list[int]]] = {}
    for node in nodes:
        if size != "nodes" and "since" in node:
            since.setdefault(node["model"], []).append(node["since"][size])
    found = {}
    for name, columns in since.items():
        found[name] = -np.ones((len(columns) + 1, len(columns) + 1), np.int64)
        np.fill_diagonal(found[name], 0)
        for j, column in enumerate(columns, start=1):
            found[name][:j, j] = column
    return found


def _smallest_largest_block(sizes: np.ndarray, num_blocks: int) -> int:
    """The least size that the largest of `num_blocks` blocks can have: a dynamic program over the cut positions."""
    positions = np.arange(len(sizes))
    blocks = np.where(positions[:, None] < positions, sizes, np.inf)
    largest = np.where(positions == 0, 0, np.inf)
    for _ in range(num_blocks):
        largest = np.maximum(largest[:, None], blocks).min(0)
    return int(largest[-1])
