"""Putting a candidate together without training: stitches fitted in forward order, BatchNorm recalibrated, a head."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ...fit import batchnorm
from ...network.blocks import Block, Pick
from ...network.modules import ReassembledNetwork, Stitch
from ...network.parts import NewHead, Tail, line
from ...network.reassembled import Reassembled
from ...network.source import Source
from ...trace.duplicate import duplicate
from .heads import fit_head
from .material import Bricks
from .refit import refit
from .stitching import StitchEquations, identity, paper, random


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


def reassemble(bricks: Bricks, pick: Pick) -> tuple[ReassembledNetwork, Reassembled]:
    """Builds a candidate. Each stitch is fitted to the activations that really reach it; then the block behind it and
    the head are treated as `bricks.stitching` says. No labels are used, but for a new head.

    Differs from the paper, unless `stitching.init` is paper: closed-form stitches instead of random ones, so that the
    network works untrained.
    """
    first, *others = pick.runs()
    prefix = begin(bricks, first)
    for run in others:
        prefix = extend(bricks, prefix, run)
    return finish(bricks, prefix)


class Workshop:
    """Puts candidates together as `reassemble` does; what several begin with is fitted once. Networks that it gives may
    have modules in common: they are to be looked at, measured and saved, not trained.

    memory: bytes of weights that may be kept; what was not asked for the longest is forgotten, and fitted again.
    """

    def __init__(self, bricks: Bricks, memory: int) -> None:
        self.bricks, self.memory = bricks, memory
        self._prefixes: dict[tuple[Block, ...], Prefix] = {}
        self._finished: dict[Pick, tuple[ReassembledNetwork, Reassembled]] = {}

    def reassemble(self, pick: Pick) -> tuple[ReassembledNetwork, Reassembled]:
        """A candidate's network and recipe."""
        made = self._finished.pop(pick, None) or finish(self.bricks, self._prefix(pick.runs()))
        self._finished[pick] = made
        while len(self._finished) > 1 and self._bytes() > self.memory:
            del self._finished[next(iter(self._finished))]
            kept = {pick.runs()[:length] for pick in self._finished for length in range(1, len(pick.runs()) + 1)}
            self._prefixes = {runs: prefix for runs, prefix in self._prefixes.items() if runs in kept}
        return made

    def _prefix(self, runs: tuple[Block, ...]) -> Prefix:
        if runs not in self._prefixes:
            before = runs[:-1]
            found = extend(self.bricks, self._prefix(before), runs[-1]) if before else begin(self.bricks, runs[0])
            self._prefixes[runs] = found
        return self._prefixes[runs]

    def _bytes(self) -> int:
        """Of the weights of all that is kept, each once."""
        modules = [part for prefix in self._prefixes.values() for part in prefix.parts]
        modules += [head for network, _ in self._finished.values() for head in network.heads]
        tensors = {id(t): t for module in modules for t in (*module.parameters(), *module.buffers())}
        return sum(t.nbytes for t in tensors.values())


def begin(bricks: Bricks, run: Block) -> Prefix:
    """The first run of blocks, as it is in its source."""
    m = bricks.place(run.network)
    own = duplicate(bricks.chains[m][run.start : run.stop])
    return Prefix((own,), (_described(bricks, run),), m, run)


@torch.no_grad()
def extend(bricks: Bricks, prefix: Prefix, run: Block) -> Prefix:
    """One stitch and one run of blocks more."""
    m, start, stop = bricks.place(run.network), run.start, run.stop
    chain, how = bricks.chains[m], bricks.stitching.recalibrate
    block, own = duplicate(chain[start:stop]), chain[0:start]
    equations = _equations(bricks, prefix, m, start)
    stitch = _stitch(bricks, equations, position=len(prefix.parts))
    if bricks.form == "paper" and how != "none":
        batchnorm.batchnorm(stitch, (prefix(x) for x, _ in bricks.fit[prefix.first]))
    elif how != "none" and not batchnorm.has_batchnorm(chain[start : len(chain)]):  # however far the run goes
        stitch = equations.matched(stitch)
    if how == "layers":
        pairs = [(stitch(x), y) for x, y in _pairs(bricks, prefix, m, own)]
        refit(block, chain[start:stop], pairs, bricks.stitching.pull)
    elif how != "none":
        batchnorm.batchnorm(block, (stitch(prefix(x)) for x, _ in bricks.fit[prefix.first]))
    described = {"kind": "stitch", **stitch.to_dict(), "r2": equations.r2(bricks.ridge)}
    return Prefix(
        (*prefix.parts, stitch, block),
        (*prefix.described, described, {**_described(bricks, run), "recalibrated": how}),
        prefix.first,
        run,
    )


@torch.no_grad()
def finish(bricks: Bricks, prefix: Prefix) -> tuple[ReassembledNetwork, Reassembled]:
    """The network with its head: that of the last source where it knows the task's classes, refitted to that source's
    own logits behind stitches if `bricks.stitching` says so; else a new one in closed form.
    """
    last = bricks.place(prefix.last.network)
    if bricks.keeps_head(last):
        chain = bricks.chains[last]
        head: nn.Module = duplicate(chain.head)
        if len(prefix.parts) > 1 and bricks.stitching.recalibrate in ("head", "layers"):
            pairs = list(_pairs(bricks, prefix, last, chain[0 : len(chain)]))
            refit(head, chain.head, pairs, bricks.stitching.pull)
        head_recipe: str | NewHead = bricks.cards[last].name
    else:
        layout = bricks.chains[last].layout(len(bricks.chains[last]))
        images = bricks.labelled[prefix.first]
        labelled = ((prefix(x), y) for x, y in images)
        head = fit_head(layout, labelled, len(bricks.classes), bricks.head, bricks.head_shrinkage)
        head_recipe = NewHead(layout, bricks.head, bricks.head_shrinkage, len(images.index), images.images.checksum)
    names = {part["source"] for part in prefix.described if part["kind"] == "block"}
    sources = tuple(Source.of(card) for card in bricks.cards if card.name in names)
    parts = line(prefix.described)
    tails = (Tail(parts[-1]["name"], head_recipe),)
    recipe = Reassembled(sources, parts, tails, bricks.cards[prefix.first].input, bricks.classes)
    return ReassembledNetwork(prefix.parts, [head], recipe).eval(), recipe


def _pairs(bricks: Bricks, prefix: Prefix, m: int, own: nn.Module) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """What leaves the prefix, and what leaves the front `own` of network m, for the same images, batch by batch."""
    for (x, _), (y, _) in zip(bricks.fit[prefix.first], bricks.fit[m], strict=True):
        yield prefix(x), own(y)


def _equations(bricks: Bricks, prefix: Prefix, m: int, start: int) -> StitchEquations:
    """Of a stitch from the prefix to what enters node start + 1 of network m, in the form that fits best."""
    before = bricks.chains[bricks.place(prefix.last.network)]
    source, target = before.layout(prefix.last.stop), bricks.chains[m].layout(start)
    forms = [StitchEquations(source, target, patch) for patch in bricks.patches(source, target)]
    for x, y in _pairs(bricks, prefix, m, bricks.chains[m][0:start]):
        for form in forms:
            form.add(x, y)
    return max(forms, key=lambda form: form.held_out_r2(bricks.ridge)) if len(forms) > 1 else forms[0]


def _stitch(bricks: Bricks, equations: StitchEquations, position: int) -> Stitch:
    if bricks.stitching.init == "least_squares":
        return equations.fitted(bricks.ridge)
    if bricks.stitching.init == "identity":
        return identity(equations.source, equations.target, equations.patch)
    draw = paper if bricks.form == "paper" else random
    return draw(equations.source, equations.target, equations.patch, bricks.seed + position)


def _described(bricks: Bricks, run: Block) -> dict[str, Any]:
    """As a part of a recipe."""
    nodes = [node.name for node in bricks.chains[bricks.place(run.network)].nodes[run.start : run.stop]]
    return {"kind": "block", "source": run.network, "start": run.start, "stop": run.stop, "nodes": nodes}
