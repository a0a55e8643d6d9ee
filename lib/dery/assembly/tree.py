"""One network out of several candidates that may begin alike: what they share is there once, their logits are added up.

Ours; the paper's networks are chains.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from ...base.errors import BrickyardError
from ...network.blocks import Block, Pick
from ...network.modules import ReassembledNetwork
from ...network.parts import block_of, part_name
from ...network.reassembled import Reassembled
from ...trace.duplicate import duplicate
from .material import Bricks
from .reassembly import Made

Json = dict[str, Any]


@dataclass
class _Place:
    """A block of the tree, where its candidates have it: the run of blocks to which it belongs there. stitch: what
    stands before it, if anything; tails: of the candidates that end with it.
    """

    block: Block
    run: tuple[Json, nn.Module]
    stitch: tuple[Json, nn.Module] | None
    below: "dict[Block, _Place]" = field(default_factory=dict)
    tails: list[int] = field(default_factory=list)


def plant(bricks: Bricks, picks: Sequence[Pick], chains: Sequence[Made], weights: Sequence[float]) -> Made:
    """The tree of some candidates, and its recipe.

    picks: of the candidates, all different.
    chains: the candidates, put together; they are left as they are.
    weights: of their logits in the sum; they add up to 1.

    Raises BrickyardError where candidates that begin alike were put together differently there, and where one knows
    other classes than the task's.
    """
    for _, recipe in chains:
        if recipe.classes != bricks.classes:
            own, task = (", ".join(classes) for classes in (recipe.classes, bricks.classes))
            raise BrickyardError(f"{recipe.words} knows {own}; every tail of a tree should know the task's {task}")
    roots: dict[Block, _Place] = {}
    for number, (pick, (network, recipe)) in enumerate(zip(picks, chains, strict=True)):
        _grow(roots, number, pick, network, recipe)
    parts, modules, ends = list[Json](), list[nn.Module](), dict[int, str]()
    for root in roots.values():
        _emit(bricks, root, None, parts, modules, ends)
    tails = [
        replace(recipe.tails[0], after=ends[number], weight=weight)
        for number, ((_, recipe), weight) in enumerate(zip(chains, weights, strict=True))
    ]
    sources = tuple({one.name: one for _, recipe in chains for one in recipe.sources}.values())
    expected = max((recipe.input for _, recipe in chains), key=lambda given: given.size)
    recipe = Reassembled(sources, tuple(parts), tuple(tails), expected, bricks.classes)
    heads = [duplicate(network.heads[0]) for network, _ in chains]
    return ReassembledNetwork(modules, heads, recipe).eval(), recipe


def _grow(
    roots: dict[Block, _Place], number: int, pick: Pick, network: ReassembledNetwork, recipe: Reassembled
) -> None:
    """Adds a candidate to the tree of those before it."""
    runs = iter(zip(recipe.parts, network.parts, strict=True))
    run, stitch, level, place = next(runs), None, roots, None
    for block in (piece for whole in pick.blocks for piece in whole.pieces()):
        if not (own := block_of(run[0])).covers(block) or own.width != block.width:
            run = next(runs)
            if run[0]["kind"] == "stitch":
                stitch, run = run, next(runs)
        if block in level:
            place = level[block]
            _check_same(place, run, stitch)
        else:
            place = level[block] = _Place(block, run, stitch)
        stitch, level = None, place.below
    assert place is not None
    place.tails.append(number)


def _check_same(place: _Place, run: tuple[Json, nn.Module], stitch: tuple[Json, nn.Module] | None) -> None:
    """Raises BrickyardError where a run, as far as both go, or the stitch before it differs in two candidates."""
    pairs = [(place.run[1], run[1])]
    if place.stitch is not None and stitch is not None:
        pairs.append((place.stitch[1], stitch[1]))
    for one, other in pairs:
        own, others = one.state_dict(), other.state_dict()
        if one is not other and not all(torch.equal(own[key], others[key]) for key in own.keys() & others.keys()):
            raise BrickyardError(f"{place.block} is another one in two candidates that begin alike; please report this")


def _emit(
    bricks: Bricks, place: _Place, after: str | None, parts: list[Json], modules: list[nn.Module], ends: dict[int, str]
) -> None:
    """Writes a place and what is below it to the end of `parts` and `modules`, blocks of one run that nothing parts as
    one part.
    """
    if place.stitch is not None:
        told, module = place.stitch
        after = _add(told, duplicate(module), after, parts, modules)
    last = place
    while len(last.below) == 1 and not last.tails and (only := next(iter(last.below.values()))).stitch is None:
        if only.block.narrow or last.block.narrow:
            break
        last = only
    block = replace(place.block, stop=last.block.stop)
    chain = bricks.chain(block)
    nodes = [node.name for node in chain.nodes[block.start : block.stop]]
    told = {**place.run[0], "start": block.start, "stop": block.stop, "nodes": nodes}
    after = _add(told, _piece(chain[block.start : block.stop], place.run, block), after, parts, modules)
    ends |= dict.fromkeys(last.tails, after)
    for below in last.below.values():
        _emit(bricks, below, after, parts, modules, ends)


def _add(told: Json, module: nn.Module, after: str | None, parts: list[Json], modules: list[nn.Module]) -> str:
    name = first = part_name(told, 1 + sum(part["kind"] == "stitch" for part in parts))
    again = 1
    while any(part["name"] == name for part in parts):
        again += 1
        name = f"{first}_{again}"
    parts.append({**told, "name": name, "after": after})
    modules.append(module)
    return name


def _piece(empty: nn.Module, run: tuple[Json, nn.Module], block: Block) -> nn.Module:
    """Some blocks of a run, as they are there."""
    told, module = run
    if (told["start"], told["stop"]) == (block.start, block.stop):
        return duplicate(module)
    piece, state = duplicate(empty), module.state_dict()
    piece.load_state_dict({name: state[name] for name in piece.state_dict()})
    return piece.eval()
