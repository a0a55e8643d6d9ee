"""Reassembly as a choice of a path through a layered graph (DeRy, section 3.4, Eq. 8-11).

Notation: K sets, N networks. A candidate is a path m_1, ..., m_K: from the k-th equivalence set the block of network
m_k, which is its k-th block; so each set and each stage supplies exactly one block. Where m_k != m_k+1 a stitch
stands between them. Inside this package a path is the columns of the tables that it goes through; what leaves it is a
`Candidate` with its `Pick`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from typing import Literal

import numpy as np
from jaxtyping import Bool, Real

from ...base.errors import BrickyardError
from ...network.blocks import Block, Pick
from .tables import KINDS, Ceiling, Columns, Kind, Table

ANYWHERE = -1  # as the beginning of a run, where it makes no difference


@dataclass(frozen=True)
class AssemblyProblem:
    """Maximise the sum of `scores` over paths.

    blocks: [K][N], what there is to choose from, a column a network, or a form of its blocks.
    costs: what parts need: params, macs and latency (milliseconds a batch) add up; memory (bytes of activations that
        must be alive at once) is that of the part or the step which needs most.
    limits: upper limits, of the kinds in `costs`.
    at_least: lower limits, of the same kinds; of memory, one that the part or step which needs most has to reach.
    cheapest: what parts cost at least, of kinds whose `costs` may turn out to be less (a stitch whose form is chosen
        when it is fitted); lower limits hold for these costs, upper ones for `costs`.
    min_sources, max_sources: how many networks lend blocks (an unmodified network is one source).
    max_stitches: how often a candidate goes over from one network to another, at most.
    required, excluded: networks that lend at least one block, and none.
    required_blocks, excluded_blocks: (set, network) of blocks that every candidate has, and that none has. A block is
        there in its own set: where it is passed by, or part of a longer one in another set, it is not; but none that is
        excluded is part of a longer one.
    shared: [N, K, K], how much less blocks i..j of network m cost in one run than `costs` say, because blocks that are
        no neighbours need the same.
    lenders: the network of each column, where some have several: their blocks in other forms; empty: a column each.
    absent: (set, column) of forms that there are not.
    columns: where it is not empty, the columns of all tables are (column, set in which its run begins) of another
        problem, see `lib.dery.paths.unrolled`; paths are paths of these then.
    leaving: [K, N], bytes of what leaves each block for one image, of the logits behind the last; a tree keeps them
        where it parts and ends.
    """

    blocks: tuple[tuple[Block, ...], ...]
    scores: Table
    costs: Mapping[Kind, Table]
    limits: Mapping[Kind, float] = field(default_factory=dict)
    at_least: Mapping[Kind, float] = field(default_factory=dict)
    cheapest: Mapping[Kind, Table] = field(default_factory=dict)
    min_sources: int = 1
    max_sources: int | None = None
    max_stitches: int | None = None
    required: frozenset[int] = frozenset()
    excluded: frozenset[int] = frozenset()
    required_blocks: frozenset[tuple[int, int]] = frozenset()
    excluded_blocks: frozenset[tuple[int, int]] = frozenset()
    shared: Mapping[Kind, Real[np.ndarray, "N K K"]] = field(default_factory=dict)
    lenders: tuple[int, ...] = ()
    absent: frozenset[tuple[int, int]] = frozenset()
    columns: tuple[tuple[int, int], ...] = ()
    leaving: Real[np.ndarray, "_ _"] = field(default_factory=lambda: np.zeros((0, 0)))

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Of the networks."""
        return tuple(dict.fromkeys(block.network for block in self.blocks[0]))

    @property
    def choices(self) -> int:
        """The number of columns."""
        return len(self.blocks[0])

    @property
    def sets(self) -> int:
        """The number of equivalence sets, K."""
        return len(self.scores.blocks)

    def score(self, path: Columns) -> float:
        """Sum over blocks and stitches."""
        return sum(self.scores.parts(path))

    def cost(self, path: Columns, kind: Kind) -> float:
        """What the finished network costs, stitches and head counted in."""
        parts = self.costs[kind].parts(path)
        if kind == "memory":
            return max(parts)
        found = sum(parts)
        if kind in self.shared:
            found -= sum(float(self.shared[kind][self.networks[m], i, j]) for m, i, j in runs(path))
        return found

    def price(self, path: Columns) -> dict[Kind, float]:
        """All costs of a path; milliseconds are floats, the rest integers."""
        found: dict[Kind, float] = {}
        for kind in KINDS:
            if kind in self.costs:
                value = self.cost(path, kind)
                found[kind] = value if kind == "latency" else int(value)
        return found

    def within(self, path: Columns) -> bool:
        """Whether a path keeps all upper limits on cost."""
        return all(self.cost(path, kind) <= limit for kind, limit in self.limits.items())

    def reaches(self, path: Columns) -> bool:
        """Whether a path keeps all lower limits on cost."""
        return all(self.at_cheapest.cost(path, kind) >= least for kind, least in self.at_least.items())

    def feasible(self, path: Columns) -> bool:
        """Whether a path keeps the limits and takes the right blocks from the right number of the right networks."""
        own = tuple(self.networks[m] for m in path)
        right = self.admits(frozenset(own)) and self.takes([own]) and self.joins(own) and self._open(path)
        return right and self.within(path) and self.reaches(path)

    def thinned(self, apart: int) -> bool:
        """Whether it leaves candidates out that they are to differ in so many blocks: without smaller forms, all differ
        in one.
        """
        return apart > (0 if self.lenders else 1)

    def told_as(self, apart: int) -> str:
        """What candidates do that differ in so many blocks, in words."""
        differ = f" and differ in {apart} block{'s' if apart > 1 else ''}"
        return "meet the budgets" + (differ if self.thinned(apart) else "")

    def _open(self, path: Columns) -> bool:
        """Whether all blocks and stitches on a path are there."""
        if not self.lenders:
            return True
        stitches = [self.open_stitches[k, m, n] for k, (m, n) in enumerate(pairwise(path))]
        return all(self.open_blocks[k, m] for k, m in enumerate(path)) and all(stitches)

    def joins(self, networks: Sequence[int]) -> bool:
        """Whether a candidate, or a tail, with blocks of these networks has no more stitches than it may."""
        return self.max_stitches is None or sum(m != n for m, n in pairwise(networks)) <= self.max_stitches

    def admits(self, sources: frozenset[int]) -> bool:
        """Whether a candidate may take its blocks from exactly these networks."""
        most = len(self.names) if self.max_sources is None else self.max_sources
        right = self.required <= sources and not (self.excluded & sources)
        return right and self.min_sources <= len(sources) <= most

    def takes(self, tails: Sequence[Sequence[int]]) -> bool:
        """Whether a candidate, given by the networks of the blocks of each of its tails, has the blocks that it must
        have and none that it must not.
        """
        blocks = {place for tail in tails for place in enumerate(tail)}
        return self.required_blocks <= blocks and not (self.excluded_blocks & blocks)

    @cached_property
    def at_cheapest(self) -> "AssemblyProblem":
        """The problem with what its parts cost at least as their costs."""
        return replace(self, costs={**self.costs, **self.cheapest}, cheapest={}) if self.cheapest else self

    @cached_property
    def networks(self) -> tuple[int, ...]:
        """The network of each column."""
        own = self.lenders or range(len(self.names))
        return tuple(own[column] for column in self.origins)

    @cached_property
    def origins(self) -> tuple[int, ...]:
        """The column of each column before `unroll`."""
        return tuple(column for column, _ in self.columns) or tuple(range(self.choices))

    def whole(self, m: int) -> Columns:
        """The path of the unmodified network m."""
        return (self.networks.index(m),) * self.sets

    def path(self, pick: Pick) -> Columns:
        """The inverse of `Pick.of`."""
        return tuple(row.index(block) for row, block in zip(self.blocks, pick.blocks, strict=True))

    @cached_property
    def ceilings(self) -> tuple[Ceiling, ...]:
        """All limits on what adds up, without `shared`: also the lower one on memory, as the number of parts that reach
        it, and the number of stitches. The upper one on memory closes parts.
        """
        upper: list[Kind] = [kind for kind in KINDS if kind in self.limits and kind != "memory"]
        found = [Ceiling(kind, False, self.costs[kind], self.limits[kind]) for kind in upper]
        for kind in KINDS:
            least = self.at_least.get(kind, 0)
            if least > 0:
                table = self.at_cheapest.costs[kind]
                if kind == "memory":
                    least, table = 1.0, Table(1.0 * (table.blocks >= least), 1.0 * (table.stitches >= least))
                found.append(Ceiling(kind, True, Table(-table.blocks, -table.stitches), -least))
        if self.max_stitches is not None:
            networks = np.array(self.networks)
            changes = np.broadcast_to(1 * (networks[:, None] != networks), self.scores.stitches.shape)
            found.append(Ceiling("stitches", False, Table(0 * self.scores.blocks, changes), self.max_stitches))
        return tuple(found)

    @cached_property
    def open_blocks(self) -> Bool[np.ndarray, "K N"]:
        """bool [K, N]: blocks that may be taken, none excluded in them, and that fit into memory by themselves."""
        networks = np.array(self.networks)
        found = self._fits("blocks") & ~np.isin(networks, sorted(self.excluded))
        for k, column in self.absent:
            found[k, column] = False
        for k, m in self.excluded_blocks:
            found[k] &= networks != m
            whole = self.blocks[k][self.networks.index(m)]
            found &= ~np.array([[block.covers(whole) for block in row] for row in self.blocks])
        for k, m in self.required_blocks:
            found[k] &= (networks == m) & ~np.array([block.empty for block in self.blocks[k]])
        if self.columns:
            begins = np.array([begin for _, begin in self.columns])
            found &= begins <= np.arange(self.sets)[:, None]
        return found

    @cached_property
    def open_stitches(self) -> Bool[np.ndarray, "J N N"]:
        """bool [K-1, N, N]: stitches that fit into memory by themselves, and have no other beside them."""
        found = self._fits("stitches")
        if self.columns:
            networks, begins = np.array(self.networks), np.array([begin for _, begin in self.columns])
            stays = np.eye(len(begins), dtype=bool)
            begun = (begins == ANYWHERE) | (begins == np.arange(1, self.sets)[:, None])
            free = (networks[:, None] != networks) | ((begins[:, None] == ANYWHERE) & (begins == ANYWHERE))
            found &= stays | (free & begun[:, None, :])
        if self.lenders:
            alone = np.equal.outer(self.networks, self.networks)
            for k, (before, behind) in enumerate(pairwise(self.blocks)):
                closes, opens = (np.array(own) for own in ([b.closes for b in before], [b.opens for b in behind]))
                goes_on = np.equal.outer([b.stop for b in before], [b.start for b in behind])
                goes_on &= ~np.outer([b.empty for b in before], [bool(b.form) and not b.empty for b in behind])
                found[k] &= np.where(alone, goes_on & ~(closes[:, None] & opens), ~(closes[:, None] | opens))
        return found

    def _fits(self, parts: Literal["blocks", "stitches"]) -> np.ndarray:
        if "memory" not in self.limits:
            return np.ones(getattr(self.scores, parts).shape, bool)
        return getattr(self.costs["memory"], parts) <= self.limits["memory"]

    def check(self) -> None:
        """Raises BrickyardError when no choice of networks can have the right number of sources."""
        open_to, most = len(self.names) - len(self.excluded), self.max_sources
        if self.min_sources > min(open_to, self.sets):
            raise BrickyardError(
                f"assembly.min_sources = {self.min_sources}: {open_to} networks may lend blocks and a candidate has "
                f"{self.sets}; ask for {min(open_to, self.sets)} at most"
            )
        runs = self.sets if self.max_stitches is None else self.max_stitches + 1
        if max(self.min_sources, len(self.required)) > runs:
            wanted = "min_sources" if self.min_sources > runs else "include"
            raise BrickyardError(
                f"assembly.max_stitches = {self.max_stitches}: a candidate has {runs} sources at most; see {wanted}"
            )
        if len(self.required) > min(self.sets, self.sets if most is None else most):
            raise BrickyardError(
                f"assembly.include names {len(self.required)} networks; a candidate has {self.sets} blocks and at most "
                f"{self.sets if most is None else most} sources"
            )
        if self.required & self.excluded:
            name = self.names[min(self.required & self.excluded)]
            raise BrickyardError(f"assembly.include: {name} is excluded, by exclude or by its licence")
        for k in range(self.sets):
            asked = sorted(m for place, m in self.required_blocks if place == k)
            closed = self.excluded | {m for place, m in self.excluded_blocks if place == k}
            if len(closed) == len(self.names) or len(asked) > 1 or closed & set(asked):
                named = f"include names {', '.join(f'{self.names[m]}:{k + 1}' for m in asked)}" if asked else "exclude"
                raise BrickyardError(f"assembly.{named}: no candidate can have such a block {k + 1}")


def runs(path: Columns) -> list[tuple[int, int, int]]:
    """(column, first set, last set) of each run of consecutive blocks in one column."""
    begins = [0, *(k for k in range(1, len(path)) if path[k] != path[k - 1]), len(path)]
    return [(path[begin], begin, end - 1) for begin, end in pairwise(begins)]


@dataclass(frozen=True)
class Candidate:
    """score: predicted; cost: of the finished network; others: of a tree the picks of its further tails."""

    pick: Pick
    score: float
    cost: dict[Kind, float]
    others: tuple[Pick, ...] = ()

    @property
    def picks(self) -> tuple[Pick, ...]:
        """Those of all tails."""
        return (self.pick, *self.others)

    @classmethod
    def of(cls, problem: AssemblyProblem, path: Columns) -> "Candidate":
        """The blocks on a path, with its score and costs in `problem`."""
        return cls(Pick.of(problem.blocks, path), problem.score(path), problem.price(path))


@dataclass(frozen=True)
class Pool:
    """The best candidates in descending order, equal ones by path, and how the search ended."""

    candidates: tuple[Candidate, ...]
    status: str

    @property
    def complete(self) -> bool:
        """Whether the search ended by itself: then a pool that is too short holds all there are."""
        return self.status.startswith("optimal")
