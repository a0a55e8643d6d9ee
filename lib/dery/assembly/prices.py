"""The assembly problem of a zoo: what every block, stitch and head costs, and who may lend blocks."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from ...base.errors import BrickyardError
from ...base.progress import track
from ...chain import latency
from ...chain.chain import Chain
from ...chain.latency import Latencies
from ...chain.layout import Layout
from ...network.modules import Form, LinearHead, make_stitch
from ...params.assembly import Assembly, place
from ...trace import cost
from ...trace.cost import Cost
from ..paths.problem import AssemblyProblem
from ..paths.tables import Kind, Table
from .material import Bricks


def assembly_problem(bricks: Bricks, params: Assembly, latencies: Path) -> AssemblyProblem:
    """All data of the choice (DeRy, Eq. 8-11) but the scores, which are zero. Stitches and heads count in all costs;
    latency is one of them where it has been measured: it adds up approximately. Memory is never less than that of the
    finished network. Where the fit will choose the form of a stitch, the dearer one counts.

    Raises BrickyardError when no choice of sources can be right, or a limit on latency finds nothing measured.
    """
    names = [card.name for card in bricks.cards]
    limits, at_least = params.budget.limits(), params.budget.at_least.limits()
    costs, shared, leaving = _costs(bricks, _measured(bricks, latencies, needed="latency" in {*limits, *at_least}))
    found = AssemblyProblem(
        blocks=bricks.blocks,
        scores=Table(np.zeros((bricks.sets, len(names))), np.zeros((bricks.sets - 1, len(names), len(names)))),
        costs=costs,
        shared=shared,
        leaving=leaving,
        limits=limits,
        at_least=at_least,
        cheapest=_cheapest(bricks, costs) if at_least else {},
        min_sources=params.min_sources,
        max_sources=params.max_sources,
        max_stitches=params.max_stitches,
        required=frozenset(m for _, m in _lent(bricks, params.include, "include")),
        excluded=frozenset(range(len(names))) - frozenset(lenders(bricks, params)),
        required_blocks=_blocks(_lent(bricks, params.include, "include")),
        excluded_blocks=_blocks(_lent(bricks, params.exclude, "exclude")),
    )
    found.check()
    return found


def tied(problem: AssemblyProblem, m: int) -> bool:
    """Whether blocks of network m have weights or operations in common."""
    tables = [problem.costs[kind].stitches[:, m, m] for kind in ("params", "macs") if kind in problem.costs]
    return any(table.any() for table in tables) or any(saved[m].any() for saved in problem.shared.values())


def lenders(bricks: Bricks, params: Assembly) -> list[int]:
    """The networks that may lend blocks: not excluded, and under one of the licences.

    Raises BrickyardError for a name that is not in the zoo, and where none is left.
    """
    without = {m for k, m in _lent(bricks, params.exclude, "exclude") if k is None}
    licences = {card.licence for card in bricks.cards}
    if params.licences is not None and not licences & set(params.licences):
        raise BrickyardError(
            f"assembly.licences = {params.licences}: the zoo's networks are under {', '.join(sorted(licences))}"
        )
    allowed = licences if params.licences is None else set(params.licences)
    return [m for m, card in enumerate(bricks.cards) if m not in without and card.licence in allowed]


def _measured(bricks: Bricks, path: Path, needed: bool) -> Latencies | None:
    """None where something has not been measured and is not needed."""
    try:
        found = latency.load(path)
        for m in range(len(bricks.cards)):
            found.of(bricks.chains[m])
    except latency.Unmeasured:
        if needed:
            raise
        return None
    return found


def _costs(bricks: Bricks, latencies: Latencies | None) -> tuple[dict[Kind, Table], dict[Kind, np.ndarray], np.ndarray]:
    """`costs`, `shared` and `leaving` of the problem."""
    networks, sets = range(len(bricks.cards)), range(bricks.sets)
    blocks, layouts, needs = list[list[Cost]](), list[list[Layout]](), list[_Needs]()
    heads, times, whole = list[Cost](), list[list[float]](), list[dict[tuple[int, int], Cost]]()
    for m in track(networks, "costs", len(networks)):
        chain, cuts = bricks.chains[m], bricks.cuts[m]
        blocks.append([chain.cost(cuts[k], cuts[k + 1]) for k in sets])
        whole.append(_runs(chain, cuts, blocks[m]))
        layouts.append([chain.layout(cut) for cut in cuts[1:-1]])
        own = bricks.keeps_head(m)
        heads.append(chain.head_cost if own else _head_cost(chain.layout(len(chain)), len(bricks.classes)))
        needs.append(
            _Needs(
                alone=tuple(cost.memory for cost in blocks[m]),
                within=tuple(chain.alive(cuts[k], cuts[k + 1]) for k in sets),
                entering=tuple(chain.entering(cuts[k]) for k in sets),
                head=heads[m].memory,
            )
        )
        if latencies is not None:
            measured = latencies.of(chain)
            times.append([measured.block(cuts[k], cuts[k + 1]) for k in sets])
            times[-1][-1] += measured.head

    def dearest(source: Layout, target: Layout) -> Cost:
        return stitch_cost(source, target, max(bricks.patches(source, target)), bricks.form)

    between = [
        [[Cost() if m == n else dearest(layouts[m][k], layouts[n][k]) for n in networks] for m in networks]
        for k in sets[:-1]
    ]
    with_heads = [[*own[:-1], own[-1] + head] for own, head in zip(blocks, heads, strict=True)]
    shape = (bricks.sets - 1, len(networks), len(networks))
    kinds: tuple[Kind, ...] = ("params", "macs")
    costs: dict[Kind, Table] = {
        kind: Table(
            np.array([[getattr(own[k], kind) for own in with_heads] for k in sets]),
            np.array([[[getattr(c, kind) for c in row] for row in table] for table in between]).reshape(shape),
        )
        for kind in kinds
    }
    shared = _share(costs, blocks, whole)
    costs["memory"] = _memory(needs, [[[c.memory for c in row] for row in table] for table in between])
    if latencies is not None:
        stitch = [[[latencies.stitch.of(c.macs) if c.macs else 0.0 for c in row] for row in table] for table in between]
        costs["latency"] = Table(np.array(times).T, np.array(stitch).reshape(shape))
    logits = 4 * len(bricks.classes)
    leaving = np.array([[*own.entering[1:], logits] for own in needs]).T
    return costs, shared, leaving


def _runs(chain: Chain, cuts: Sequence[int], blocks: Sequence[Cost]) -> dict[tuple[int, int], Cost]:
    """The costs of blocks i..j, i < j, in one run; empty where no blocks have weights or operations in common."""
    alone, together = sum(blocks, Cost()), chain.cost(cuts[0], cuts[-1])
    if (alone.params, alone.macs) == (together.params, together.macs):
        return {}
    return {(i, j): chain.cost(cuts[i], cuts[j + 1]) for j in range(len(blocks)) for i in range(j)}


def _share(
    costs: Mapping[Kind, Table], blocks: Sequence[Sequence[Cost]], runs: Sequence[Mapping[tuple[int, int], Cost]]
) -> dict[Kind, np.ndarray]:
    """Takes what neighbours have in common off the steps from each network to itself, and returns what is then still
    too much for longer runs, [N, K, K], for kinds where it is anything.
    """
    found: dict[Kind, np.ndarray] = {}
    for kind, table in costs.items():
        saved = np.zeros((len(blocks), len(table.blocks), len(table.blocks)))
        for m, own in enumerate(runs):
            alone = [getattr(block, kind) for block in blocks[m]]
            for (i, j), together in own.items():
                if j == i + 1:
                    table.stitches[i, m, m] = getattr(together, kind) - alone[i] - alone[j]
            for (i, j), together in own.items():
                steps = sum(table.stitches[k, m, m] for k in range(i, j))
                saved[m, i, j] = sum(alone[i : j + 1]) + steps - getattr(together, kind)
        if saved.any():
            found[kind] = saved
    return found


@dataclass(frozen=True)
class _Needs:
    """Bytes alive at once for one image, of each of a network's K blocks and its head.

    alone: of a part of its own, which keeps what enters it to its end.
    within: of a part that began before.
    entering: of what enters the block.
    """

    alone: tuple[int, ...]
    within: tuple[int, ...]
    entering: tuple[int, ...]
    head: int


def _memory(needs: Sequence[_Needs], between: Sequence[Sequence[Sequence[int]]]) -> Table:
    """A step from a network to another needs what its stitch does or the block behind it as a part of its own; a step
    within a network what the block does in a part that keeps the largest tensor that may have entered it before. The
    caller keeps the image all the time. between: of the stitches alone, [K-1, N, N].

    The most over a path is what `cost.count` finds for its network, where images have one size, for K <= 3 and two
    sources or more. Elsewhere it may be more: which tensor entered a part is known from the whole path only.
    """
    sets, networks = range(len(needs[0].alone)), range(len(needs))
    image = max(own.entering[0] for own in needs)
    blocks = [[own.within[k] + image if k else own.alone[0] for own in needs] for k in sets]
    blocks[-1] = [max(value, own.head + image) for value, own in zip(blocks[-1], needs, strict=True)]
    stitches = [
        [
            [
                image
                + (
                    needs[n].within[k] + max(needs[n].entering[1:k], default=0)
                    if m == n
                    else max(between[k - 1][m][n], needs[n].alone[k])
                )
                for n in networks
            ]
            for m in networks
        ]
        for k in sets[1:]
    ]
    return Table(np.array(blocks), np.array(stitches).reshape(len(sets) - 1, len(needs), len(needs)))


def _cheapest(bricks: Bricks, costs: Mapping[Kind, Table]) -> dict[Kind, Table]:
    """What is counted, where every stitch has its cheapest form."""
    found: dict[Kind, Table] = {}
    for kind in ("params", "macs"):
        stitches = costs[kind].stitches.copy()
        for k, m, n in np.ndindex(stitches.shape):
            source, target = (bricks.chains[i].layout(bricks.cuts[i][k + 1]) for i in (m, n))
            costs_of = [stitch_cost(source, target, patch, bricks.form) for patch in bricks.patches(source, target)]
            forms = [getattr(one, kind) for one in costs_of]
            stitches[k, m, n] -= max(forms) - min(forms) if m != n else 0
        found[kind] = Table(costs[kind].blocks, stitches)
    return found


def _lent(bricks: Bricks, lenders: Sequence[str], key: str) -> list[tuple[int | None, int]]:
    """(set, network) of each entry of a list of lenders, the set None where all blocks are meant. Raises BrickyardError
    for what is not there.
    """
    names, found = [card.name for card in bricks.cards], list[tuple[int | None, int]]()
    for lender in lenders:
        name, number = place(lender)
        if name not in names:
            close = difflib.get_close_matches(name, names, n=1)
            hint = f"did you mean {close[0]}?" if close else ", ".join(names)
            raise BrickyardError(f"assembly.{key}: the zoo has no {name!r}; {hint}")
        if number is not None and number > bricks.sets:
            raise BrickyardError(f"assembly.{key}: {lender}: blocks go from 1 to {bricks.sets}")
        found.append((None if number is None else number - 1, names.index(name)))
    return found


def _blocks(lent: Sequence[tuple[int | None, int]]) -> frozenset[tuple[int, int]]:
    return frozenset((k, m) for k, m in lent if k is not None)


@cache
def stitch_cost(source: Layout, target: Layout, patch: int, form: Form = "linear") -> Cost:
    """What one stitch of that form with patches of that side costs."""
    return cost.count(make_stitch(source, target, patch, form), source.shape)


@cache
def _head_cost(source: Layout, num_classes: int) -> Cost:
    return cost.count(LinearHead(source, num_classes), source.shape)
