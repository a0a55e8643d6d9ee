"""The assembly problem with other forms of blocks: further columns of the same exact search and certificate. Ours."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from itertools import pairwise
from math import log
from pathlib import Path

import numpy as np

from ...base.errors import BrickyardError
from ...chain import latency
from ...chain.latency import Latencies
from ...chain.layout import Layout
from ...params.assembly import Assembly
from ..paths.problem import AssemblyProblem
from ..paths.tables import Kind, Table
from .gains import SMALLEST
from .material import Bricks, Smaller
from .prices import stitch_cost, tied
from .windowed import windowed

Places = Mapping[tuple[int, int], Smaller]  # by set, from 0, and column


def widened(problem: AssemblyProblem, bricks: Bricks, params: Assembly, latencies: Path) -> AssemblyProblem:
    """`problem` with further columns behind those of whole blocks: one a network and a form of its blocks, as many as
    it has in any set, then those of `windowed`. What is there to choose costs and scores what the whole block does and
    what the form changes. Between forms of one network no stitch stands.

    The score of a form is log R^2 of what leaves it, or minus its KL where that is the score of stitches. Its memory is
    an upper bound; its latency that of the nodes that are left and of a stitch; narrow blocks that have not been
    measured take as long as whole ones.

    Raises BrickyardError naming a network whose blocks have weights in common: their forms cannot be priced apart.
    """
    lenders, places = list(range(len(problem.names))), dict[tuple[int, int], Smaller]()
    for m, name in enumerate(problem.names):
        begin, used = len(lenders), [0] * problem.sets
        for form in bricks.forms.get(name, ()):
            places[form.set - 1, begin + used[form.set - 1]] = form
            used[form.set - 1] += 1
        lenders += [m] * max(used)
        if max(used) and tied(problem, m):
            raise BrickyardError(f"bricks: blocks of {name} have weights in common; leave it out of bricks.models")
    if not places:
        return windowed(problem, bricks, params, latencies)
    blocks = [[row[m] for m in lenders] for row in problem.blocks]
    for (k, column), form in places.items():
        blocks[k][column] = form.block
    extra = range(len(problem.names), len(lenders))

    def gain(form: Smaller) -> float:
        return -form.kl if params.score == "replace_one" else log(max(form.r2, SMALLEST))

    costs = dict[Kind, Table]()
    for kind, table in problem.costs.items():
        if kind == "memory":
            costs[kind] = _memory(table, bricks, lenders, places)
        else:
            costs[kind] = _changed(table, lenders, places, _change(bricks, kind, latencies, max))
    wide = replace(
        problem,
        blocks=tuple(map(tuple, blocks)),
        scores=_changed(problem.scores, lenders, places, gain),
        costs=costs,
        cheapest={
            kind: _changed(table, lenders, places, _change(bricks, kind, latencies, min))
            for kind, table in problem.cheapest.items()
        },
        lenders=tuple(lenders),
        absent=frozenset((k, column) for k in range(problem.sets) for column in extra if (k, column) not in places),
        leaving=problem.leaving[:, lenders],
    )
    return windowed(wide, bricks, params, latencies)


def _changed(table: Table, lenders: list[int], places: Places, change: Callable[[Smaller], float]) -> Table:
    """`table` with a column for each of `lenders`, blocks in smaller forms changed."""
    blocks, stitches = table.blocks[:, lenders], table.stitches[:, lenders][:, :, lenders]
    for place, form in places.items():
        blocks[place] += change(form)
    return Table(blocks, stitches)


def _change(
    bricks: Bricks, kind: Kind, latencies: Path, which: Callable[[Iterable[float]], float]
) -> Callable[[Smaller], float]:
    """What a form costs more than the whole block, params, MACs or milliseconds; which: of the patches that its stitch
    may turn out to have, the dearest or the cheapest.
    """
    if kind == "latency":
        return _slower(bricks, latency.load(latencies), which)

    def found(form: Smaller) -> float:
        block = form.block
        whole = bricks.chains[bricks.place(block.network)]
        before = getattr(whole.cost(block.start, block.stop), kind)
        pieces = sum(getattr(bricks.chain(one).cost(one.start, one.stop), kind) for one in block.pieces())
        if not block.without:
            return pieces - before
        ends = _ends(bricks, form)
        return pieces - before + which(getattr(stitch_cost(*ends, p, bricks.form), kind) for p in bricks.patches(*ends))

    return found


def _slower(bricks: Bricks, known: Latencies, which: Callable[[Iterable[float]], float]) -> Callable[[Smaller], float]:
    """The same in milliseconds."""

    def found(form: Smaller) -> float:
        block = form.block
        whole = known.of(bricks.chains[bricks.place(block.network)])
        own = (known.of_narrow(bricks.chain(block), block.width) if block.narrow else None) or whole
        more = sum(own.block(one.start, one.stop) for one in block.pieces()) - whole.block(block.start, block.stop)
        if not block.without:
            return more
        ends = _ends(bricks, form)
        macs = which(stitch_cost(*ends, p, bricks.form).macs for p in bricks.patches(*ends))
        return more + known.stitch.of(int(macs))

    return found


def _ends(bricks: Bricks, form: Smaller) -> tuple[Layout, Layout]:
    """What enters and what leaves the nodes that a form leaves out."""
    chain = bricks.chains[bricks.place(form.block.network)]
    first, last = form.block.without or (0, 0)
    return chain.layout(first), chain.layout(last)


def _memory(table: Table, bricks: Bricks, lenders: list[int], places: Places) -> Table:
    """Of a form its parts by themselves, or as the beginning of what its network goes on with: the largest of its
    blocks from there on, with the tensor that enters the last piece kept, or, where a part of its own begins behind the
    form, the largest of those behind it with the tensor that enters them. A stitch in front of it needs what it needs.
    """
    blocks, stitches = table.blocks[:, lenders], table.stitches[:, lenders][:, :, lenders]
    image = max(chain.entering(0) for chain in bricks.chains)
    for (k, column), form in places.items():
        block, m = form.block, bricks.place(form.block.network)
        whole, cuts = bricks.chains[m], bricks.cuts[m]
        pieces = block.pieces()
        need = max([bricks.chain(one).cost(one.start, one.stop).memory for one in pieces], default=0)
        if block.without:
            ends = _ends(bricks, form)
            need = max(need, *(stitch_cost(*ends, p, bricks.form).memory for p in bricks.patches(*ends)))
        alive = [whole.alive(i, j) for i, j in pairwise(cuts)]
        if pieces:
            need = max(need, max(alive[k:]) + whole.entering(pieces[-1].start))
        if (block.narrow or block.closes) and alive[k + 1 :]:
            need = max(need, max(alive[k + 1 :]) + whole.entering(block.stop))
        blocks[k, column] = max(blocks[k, column], need + image)
        if k:
            stitches[k - 1, :, column] = np.maximum(stitches[k - 1, :, column], need + image)
    return Table(blocks, stitches)
