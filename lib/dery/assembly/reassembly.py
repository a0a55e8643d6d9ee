"""Putting a candidate together without training: stitches in forward order, what is behind them treated, a head."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from ...base.memo import below
from ...fit import batchnorm
from ...network.blocks import Block, Pick
from ...network.modules import LinearHead, ReassembledNetwork, Stitch, make_stitch
from ...network.parts import NewHead, Tail, block_of, line
from ...network.reassembled import Reassembled
from ...network.source import Source
from ...params.assembly import Treatment
from ...trace.duplicate import duplicate
from .fronts import Fronts
from .heads import fit_head
from .material import Bricks
from .refit import refit, refit_run
from .stitching import Edge, StitchEquations, better, initial, settled

Made = tuple[ReassembledNetwork, Reassembled]


@dataclass(frozen=True)
class Prefix:
    """The first parts of a candidate, fitted: modules and their description for a recipe. Prefixes of candidates that
    begin alike can be shared: no step changes the one before.

    first: the place of the network whose images enter; last: the run of blocks with which the prefix ends.
    """

    parts: tuple[nn.Module, ...]
    described: tuple[dict[str, Any], ...]
    first: int
    last: Block

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """A batch of images of network `first` -> the activation that leaves the prefix."""
        for part in self.parts:
            x = part(x)
        return x


def blocks_of(treatment: Treatment) -> Treatment:
    """What a treatment does to blocks, whatever it does to the head: tails that share blocks have to agree in it."""
    if treatment == "head":
        return "statistics"
    return "layers" if treatment == "layers_and_head" else treatment


def refits_head(treatment: Treatment) -> bool:
    """Whether a treatment refits a head that is kept."""
    return treatment != blocks_of(treatment)


def reassemble(bricks: Bricks, pick: Pick, treatment: Treatment = "layers") -> Made:
    """Builds a candidate. Each stitch is fitted to the activations that really reach it; then the block behind it and
    the head are treated. No labels are used, but for a new head.

    Differs from the paper, unless `edges.init` is paper: closed-form stitches instead of random ones, so that the
    network works untrained.
    """
    first, *others = pick.runs()
    prefix = begin(bricks, first)
    for run in others:
        prefix = extend(bricks, prefix, run, treatment)
    return finish(bricks, prefix, treatment)


def begin(bricks: Bricks, run: Block) -> Prefix:
    """The first run of blocks, as it is in its source."""
    own = duplicate(bricks.chain(run)[run.start : run.stop])
    return Prefix((own,), (_described(bricks, run),), bricks.place(run.network), run)


Tensors = Mapping[str, torch.Tensor]


@torch.no_grad()
def extend(bricks: Bricks, prefix: Prefix, run: Block, treatment: Treatment, found: Tensors | None = None) -> Prefix:
    """One run of blocks more, and a stitch before it where it does not continue the prefix. found: what this has fitted
    before.
    """
    m, start, stop = bricks.place(run.network), run.start, run.stop
    chain, how = bricks.chain(run), blocks_of(treatment)
    if run.continues(prefix.last) and len(prefix.parts) == 1 and not prefix.last.narrow:
        how = "none"  # it is given what its own network gives it
    block = duplicate(chain[start:stop])
    if found is not None:
        block.load_state_dict(below("block", found))
        return _extended(bricks, prefix, run, how, _stitch_of(bricks, prefix, run, found), block)
    joined = None if run.continues(prefix.last) else _joined(bricks, prefix, m, start, how)

    def arriving() -> Iterator[torch.Tensor]:
        given = _leaving(bricks, prefix)
        return given if joined is None else map(joined[0], given)

    if how == "layers":
        pairs = zip(arriving(), Fronts(bricks, bricks.kept).entering(m, start), strict=True)
        count = len(bricks.fit[m]), len(bricks.fit[m].index)
        block = refit_run(chain, start, stop, pairs, count, bricks.pull, bricks.joining.rows)
    elif how != "none":
        batchnorm.batchnorm(block, arriving())
    return _extended(bricks, prefix, run, how, joined, block)


Joined = tuple[Stitch, float]  # a stitch and its R^2


def _extended(
    bricks: Bricks, prefix: Prefix, run: Block, how: Treatment, joined: Joined | None, block: nn.Module
) -> Prefix:
    parts, described = list[nn.Module](), list[dict[str, Any]]()
    if joined is not None:
        stitch, r2 = joined
        parts.append(stitch)
        described.append({"kind": "stitch", **stitch.to_dict(), "r2": r2})
    described.append({**_described(bricks, run), "recalibrated": how})
    return Prefix((*prefix.parts, *parts, block), (*prefix.described, *described), prefix.first, run)


@torch.no_grad()
def finish(bricks: Bricks, prefix: Prefix, treatment: Treatment, found: Tensors | None = None) -> Made:
    """The network with its head: that of the last source where it knows the task's classes, refitted to that source's
    own logits behind stitches if the treatment says so; else a new one in closed form. found: the weights of a head
    that was fitted before.
    """
    last = bricks.place(prefix.last.network)
    chain = bricks.chains[last]
    if bricks.keeps_head(last):
        head: nn.Module = duplicate(chain.head)
        refitted = len(prefix.parts) > 1 and refits_head(treatment)
        if refitted and found is None:
            pairs = _pairs(bricks, prefix, last, len(chain))
            refit(head, chain.head, pairs, bricks.pull, bricks.joining.rows)
        tail = Tail("", bricks.cards[last].name, refitted=refitted)
    else:
        layout, images = chain.layout(len(chain)), bricks.labelled[prefix.first]
        if found is None:
            labelled = ((prefix(x), y) for x, y in images)
            head = fit_head(layout, labelled, len(bricks.classes), bricks.head, bricks.head_shrinkage)
        else:
            head = LinearHead(layout, len(bricks.classes)).to(bricks.device)
        tail = Tail("", NewHead(layout, bricks.head, bricks.head_shrinkage, len(images.index), images.images.checksum))
    if found is not None:
        head.load_state_dict(found)
    names = {part["source"] for part in prefix.described if part["kind"] == "block"}
    sources = tuple(Source.of(card) for card in bricks.cards if card.name in names)
    parts = line(prefix.described)
    tails = (replace(tail, after=parts[-1]["name"]),)
    recipe = Reassembled(sources, parts, tails, bricks.cards[prefix.first].input, bricks.classes)
    return ReassembledNetwork(prefix.parts, [head], recipe).eval(), recipe


def _leaving(bricks: Bricks, prefix: Prefix) -> Iterator[torch.Tensor]:
    """What leaves the prefix, for the images of the fit, batch by batch."""
    return Fronts(bricks, bricks.kept).through(prefix.first, _whole(prefix), prefix.parts)


def _whole(prefix: Prefix) -> int:
    """The nodes of its first network, from the beginning, with which a prefix begins as they are there."""
    first = block_of(prefix.described[0])
    return 0 if first.narrow else first.stop


def _pairs(bricks: Bricks, prefix: Prefix, m: int, stop: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """What leaves the prefix, and what leaves the first nodes of network m, up to `stop`, for the same images, batch by
    batch.
    """
    return zip(_leaving(bricks, prefix), Fronts(bricks, bricks.kept).entering(m, stop), strict=True)


def _joined(bricks: Bricks, prefix: Prefix, m: int, start: int, how: Treatment) -> Joined:
    """A stitch from the prefix to what enters node start + 1 of network m, and its R^2: treated, matched where no
    BatchNorm is behind it, however far the run goes, and settled.
    """
    stitch, matched, r2 = _stitched(bricks, prefix, m, start)
    if how == "none":
        return stitch, r2
    chain = bricks.chains[m]
    if not batchnorm.has_batchnorm(chain[start : len(chain)]):
        stitch = matched
    return settled(stitch, _leaving(bricks, prefix)), r2


def _stitched(bricks: Bricks, prefix: Prefix, m: int, start: int) -> tuple[Stitch, Stitch, float]:
    """The same, the stitch as it is and matched: an edge that was fitted before, where the prefix is the front of one
    network, else fitted to what really leaves it.
    """
    edge = known_edge(bricks, prefix.last, m, start) if len(prefix.parts) == 1 else None
    if edge is not None:
        return edge.stitch, edge.matched, edge.r2
    source = bricks.chains[bricks.place(prefix.last.network)].layout(prefix.last.stop)
    target = bricks.chains[m].layout(start)
    forms = [StitchEquations(source, target, patch, bricks.positions) for patch in bricks.patches(source, target)]
    for x, y in _pairs(bricks, prefix, m, start):
        for form in forms:
            form.add(x, y)
    form = better(forms, bricks.joining.ridge)
    stitch = initial(form, bricks.joining.init, bricks.joining.ridge, bricks.seed + len(prefix.parts))
    return stitch, form.matched(stitch), form.r2(bricks.joining.ridge)


def known_edge(bricks: Bricks, front: Block, m: int, start: int) -> Edge | None:
    """The stitch, fitted before, from the front of one network, a run of blocks, to what enters node start + 1 of
    network m.
    """
    if front.narrow:
        return None
    before = bricks.place(front.network)
    if before == m:
        own = bricks.forms.get(front.network, ())
        return next((one.edge for one in own if one.block.without == (front.stop, start)), None)
    for k, shift in bricks.steps:
        if (bricks.cuts[before][k], bricks.cuts[m][k + shift]) == (front.stop, start):
            return bricks.edges.get((k, front.network, bricks.cards[m].name, shift))
    return None


def fitted(prefix: Prefix) -> dict[str, torch.Tensor]:
    """What `extend` has fitted last, as tensors."""
    found = {f"block.{name}": value for name, value in prefix.parts[-1].state_dict().items()}
    told, stitch = prefix.described[-2], prefix.parts[-2]
    if told["kind"] != "stitch":
        return found
    found |= {f"stitch.{name}": value for name, value in stitch.state_dict().items()}
    return found | {"patch": torch.tensor(told["patch"]), "r2": torch.tensor(told["r2"], dtype=torch.float64)}


def _stitch_of(bricks: Bricks, prefix: Prefix, run: Block, found: Tensors) -> Joined | None:
    if run.continues(prefix.last):
        return None
    source = bricks.chains[bricks.place(prefix.last.network)].layout(prefix.last.stop)
    stitch = make_stitch(source, bricks.chain(run).layout(run.start), int(found["patch"]), bricks.form)
    stitch.load_state_dict(below("stitch", found))
    return stitch.eval().to(bricks.device), float(found["r2"])


def _described(bricks: Bricks, run: Block) -> dict[str, Any]:
    """As a part of a recipe."""
    nodes = [node.name for node in bricks.chain(run).nodes[run.start : run.stop]]
    found = {"kind": "block", "source": run.network, "start": run.start, "stop": run.stop, "nodes": nodes}
    if not run.narrow:
        return found
    kept = bricks.narrow[run.network, run.width].kept
    return found | {"width": run.width, "kept": {layer: list(channels) for layer, channels in kept.items()}}
