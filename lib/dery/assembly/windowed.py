"""The assembly problem with stitches between cuts of unequal depth: further columns of the same exact search. Ours.

A path then goes over (network, cut): it may leave one network behind set k and enter another one at any cut in a window
around. Entered earlier, that does again what has been done; entered later, some of its blocks are passed by.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from ...base.errors import BrickyardError
from ...chain import latency
from ...chain.latency import Latencies
from ...network.blocks import Block
from ...params.assembly import Assembly
from ..paths.problem import AssemblyProblem
from ..paths.tables import Kind, Table
from .gains import of_edge
from .material import Bricks
from .prices import stitch_cost, tied

Which = Callable[[Iterable[float]], float]  # of what the forms of a stitch cost


def windowed(problem: AssemblyProblem, bricks: Bricks, params: Assembly, latencies: Path) -> AssemblyProblem:
    """`problem` with a column more for every network and every shift of `edges.window`: the network entered, from
    another one, so many sets earlier or later. Memory is an upper bound.

    A network whose blocks have weights in common is entered at equal depth alone. Raises BrickyardError where stitches
    are scored by CKA, which those of unequal depth have not.
    """
    if not bricks.joining.window:
        return problem
    if params.score == "cka":
        raise BrickyardError("edges.window: its stitches have no CKA; write assembly.score: stitch_r2, or replace_one")
    return _Wide(problem, bricks, params, latencies).problem()


@dataclass(frozen=True)
class _Entry:
    """What a column holds at set k = 1..K-1, counted from 0: network n, entered at its cut `at` instead of k."""

    column: int
    n: int
    k: int
    at: int
    block: Block


@dataclass(frozen=True)
class _Wide:
    """before: the problem as it was."""

    before: AssemblyProblem
    bricks: Bricks
    params: Assembly
    latencies: Path

    def problem(self) -> AssemblyProblem:
        """With all further columns."""
        old, entries = self.before, self._entries
        blocks = [[row[column] for column in self._like] for row in old.blocks]
        leaving = old.leaving[:, self._like].copy()
        for one in entries:
            blocks[one.k][one.column] = one.block
            if one.block.empty:
                leaving[one.k, one.column] = self._entering(one)
        further = range(old.choices, len(self._like))
        there = {(one.k, one.column) for one in entries}
        return replace(
            old,
            blocks=tuple(map(tuple, blocks)),
            scores=self._scores(),
            costs={kind: self._costs(kind, table, max) for kind, table in old.costs.items()},
            cheapest={kind: self._costs(kind, table, min) for kind, table in old.cheapest.items()},
            lenders=self._lenders,
            absent=old.absent | ({(k, column) for k in range(old.sets) for column in further} - there),
            leaving=leaving,
        )

    @cached_property
    def _shifts(self) -> tuple[int, ...]:
        return tuple(dict.fromkeys(shift for _, shift in self.bricks.steps if shift))

    @cached_property
    def _like(self) -> list[int]:
        """Of every column the old one that it is like: the network's own, where it is a further one."""
        free = (n for n in range(len(self.before.names)) if not tied(self.before, n))
        return [*range(self.before.choices), *(n for n in free for _ in self._shifts)]

    @cached_property
    def _lenders(self) -> tuple[int, ...]:
        return tuple(self.before.networks[column] for column in self._like)

    @cached_property
    def _entries(self) -> tuple[_Entry, ...]:
        found, sets = list[_Entry](), self.before.sets
        for column in range(self.before.choices, len(self._like)):
            n, shift = self._lenders[column], self._shifts[(column - self.before.choices) % len(self._shifts)]
            name, cuts = self.before.names[n], self.bricks.cuts[n]
            for k in range(1, sets):
                if 1 <= (at := k + shift) < sets:
                    block = Block(name, cuts[at], max(cuts[at], cuts[k + 1]), shifted=True)
                    found.append(_Entry(column, n, k, at, block))
        return tuple(found)

    def _from(self, one: _Entry) -> Iterator[tuple[int, int]]:
        """The columns behind which it may stand, and their networks."""
        return ((column, m) for column, m in enumerate(self._lenders) if m != one.n)

    def _entering(self, one: _Entry) -> int:
        """Bytes of what leaves the stitch in front of it, for one image."""
        return self.bricks.chains[one.n].entering(self.bricks.cuts[one.n][one.at])

    def _wider(self, table: Table) -> Table:
        """With what further columns are like."""
        return Table(table.blocks[:, self._like], table.stitches[:, self._like][:, :, self._like])

    def _scores(self) -> Table:
        found, names, score = self._wider(self.before.scores), self.before.names, self.params.score
        assert score != "cka"
        for one in self._entries:
            for column, m in self._from(one):
                edge = self.bricks.edges[one.k, names[m], names[one.n], one.at - one.k]
                found.stitches[one.k - 1, column, one.column] = of_edge(edge, score)
        return Table(found.blocks, found.stitches)

    def _costs(self, kind: Kind, table: Table, which: Which) -> Table:
        found = self._wider(table)
        for one in self._entries:
            if kind == "memory":
                self._need(one, found)
                continue
            cuts = self.bricks.cuts[one.n]
            own = self._run(kind, one.n, one.block.start, one.block.stop)
            found.blocks[one.k, one.column] += own - self._run(kind, one.n, cuts[one.k], cuts[one.k + 1])
            for column, m in self._from(one):
                found.stitches[one.k - 1, column, one.column] = self._stitch(kind, m, one, which)
        return Table(found.blocks, found.stitches)

    def _run(self, kind: Kind, n: int, start: int, stop: int) -> float:
        """What nodes start + 1 to stop of a network cost, params, MACs or milliseconds."""
        chain = self.bricks.chains[n]
        if start == stop:
            return 0.0
        return self._known.of(chain).block(start, stop) if kind == "latency" else getattr(chain.cost(start, stop), kind)

    def _stitch(self, kind: Kind, m: int, one: _Entry, which: Which) -> float:
        """What the stitch between network m and what is entered costs."""
        bricks = self.bricks
        source, target = (bricks.chains[i].layout(bricks.cuts[i][at]) for i, at in ((m, one.k), (one.n, one.at)))
        costs = [stitch_cost(source, target, patch, bricks.form) for patch in bricks.patches(source, target)]
        if kind == "latency":
            return self._known.stitch.of(int(which(cost.macs for cost in costs)))
        return which(getattr(cost, kind) for cost in costs)

    @cached_property
    def _known(self) -> Latencies:
        return latency.load(self.latencies)

    def _need(self, one: _Entry, found: Table) -> None:
        """Sets what memory needs: the stitch, and the block as a part of its own; where blocks are passed by, what is
        entered waits, until the block behind them is one.
        """
        chain, cuts, block = self.bricks.chains[one.n], self.bricks.cuts[one.n], one.block
        image, waits = max(own.entering(0) for own in self.bricks.chains), self._entering(one)
        own = waits if block.empty else chain.cost(block.start, block.stop).memory
        found.blocks[one.k, one.column] = (
            image + own if block.empty else max(found.blocks[one.k, one.column], image + own)
        )
        for column, m in self._from(one):
            found.stitches[one.k - 1, column, one.column] = image + max(own, self._stitch("memory", m, one, max))
        if block.empty:
            behind = chain.cost(cuts[one.k + 1], cuts[one.k + 2]).memory if one.at == one.k + 1 else waits
            found.stitches[one.k, one.column, [m == one.n for m in self._lenders]] = image + behind
