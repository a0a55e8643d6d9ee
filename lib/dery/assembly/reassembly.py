"""Putting a candidate together without training: stitches in forward order, what is behind them treated, a head."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...base import memo
from ...base.memo import Memo, below
from ...fit import batchnorm
from ...network.blocks import Block, Pick
from ...network.modules import LinearHead, ReassembledNetwork, Stitch, make_stitch
from ...network.parts import NewHead, Tail, line
from ...network.reassembled import Reassembled
from ...network.source import Source
from ...params.assembly import Treatment
from ...trace.duplicate import duplicate
from .fronts import fingerprint
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


class Workshop:
    """Puts candidates together as `reassemble` does; what several begin with is fitted once. Networks that it gives may
    have modules in common: they are to be looked at, measured and saved, not trained.

    memory: bytes of weights that may be in memory; what was not asked for the longest is forgotten, and fitted again.
    kept: what was fitted before, for other budgets as well: found there again.
    """

    def __init__(self, bricks: Bricks, memory: int, kept: Memo | None = None) -> None:
        self.bricks, self.memory, self.kept = bricks, memory, kept or Memo()
        self._prefixes: dict[tuple[Treatment, tuple[Block, ...]], Prefix] = {}
        self._finished: dict[tuple[Pick, Treatment], Made] = {}

    def reassemble(self, pick: Pick, treatment: Treatment) -> Made:
        """A candidate's network and recipe."""
        if len(pick.runs()) == 1:
            treatment = "none"
        elif not self._keeps_head(pick):  # a new one is fitted to the labels alone
            treatment = blocks_of(treatment)
        wanted = pick, treatment
        made = self._finished.pop(wanted, None) or self._finish(*wanted)
        self._finished[wanted] = made
        while len(self._finished) > 1 and self._bytes() > self.memory:
            del self._finished[next(iter(self._finished))]
            kept = {
                (blocks_of(how) if length > 1 else "none", one.runs()[:length])
                for one, how in self._finished
                for length in range(1, len(one.runs()) + 1)
            }
            self._prefixes = {key: prefix for key, prefix in self._prefixes.items() if key in kept}
        return made

    def _finish(self, pick: Pick, treatment: Treatment) -> Made:
        runs = pick.runs()
        prefix = self._prefix(runs, blocks_of(treatment))
        own = self._keeps_head(pick)
        if own and (len(runs) == 1 or not refits_head(treatment)):
            return finish(self.bricks, prefix, treatment)
        settings = [] if own else [self.bricks.head, self.bricks.head_shrinkage, _images(self.bricks, prefix.first)]
        key = self._key(runs, treatment, "head", settings)
        if (found := self.kept.get(key)) is not None:
            return finish(self.bricks, prefix, treatment, found)
        made = finish(self.bricks, prefix, treatment)
        self.kept.put(key, made[0].heads[0].state_dict())
        return made

    def _keeps_head(self, pick: Pick) -> bool:
        return self.bricks.keeps_head(self.bricks.place(pick.networks[-1]))

    def _prefix(self, runs: tuple[Block, ...], treatment: Treatment) -> Prefix:
        if len(runs) == 1:
            treatment = "none"
        wanted = treatment, runs
        if wanted not in self._prefixes:
            if len(runs) == 1:
                self._prefixes[wanted] = begin(self.bricks, runs[0])
            else:
                before, key = self._prefix(runs[:-1], treatment), self._key(runs, treatment, "prefix", [])
                found = self.kept.get(key)
                prefix = extend(self.bricks, before, runs[-1], treatment, found)
                if found is None:
                    self.kept.put(key, _fitted(prefix))
                self._prefixes[wanted] = prefix
        return self._prefixes[wanted]

    def _key(self, runs: tuple[Block, ...], treatment: Treatment, what: str, settings: list[Any]) -> str:
        """Of what is fitted for some runs of blocks: the networks, the images, and how."""
        bricks = self.bricks
        networks = [fingerprint(bricks, bricks.place(run.network)) for run in runs]
        how = [bricks.joining.model_dump(), bricks.pull, bricks.seed, list(bricks.classes)]
        return memo.key(Path(__file__), what, networks, [run.to_dict() for run in runs], treatment, how, settings)

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


Tensors = Mapping[str, torch.Tensor]


@torch.no_grad()
def extend(bricks: Bricks, prefix: Prefix, run: Block, treatment: Treatment, found: Tensors | None = None) -> Prefix:
    """One stitch and one run of blocks more. found: what this has fitted before."""
    m, start, stop = bricks.place(run.network), run.start, run.stop
    chain, how = bricks.chains[m], blocks_of(treatment)
    if found is not None:
        stitch, r2 = _stitch_of(bricks, prefix, m, start, found)
        block = duplicate(chain[start:stop])
        block.load_state_dict(below("block", found))
        return _extended(bricks, prefix, run, how, stitch, r2, block)
    stitch, matched, r2 = _joined(bricks, prefix, m, start)
    if how != "none" and not batchnorm.has_batchnorm(chain[start : len(chain)]):  # however far the run goes
        stitch = matched
    if how != "none":
        stitch = settled(stitch, (prefix(x) for x, _ in bricks.fit[prefix.first]))
    if how == "layers":
        pairs = ((stitch(x), y) for x, y in _pairs(bricks, prefix, m, chain[0:start]))
        block = refit_run(chain, start, stop, pairs, bricks.pull, bricks.joining.rows)
    else:
        block = duplicate(chain[start:stop])
        if how != "none":
            batchnorm.batchnorm(block, (stitch(prefix(x)) for x, _ in bricks.fit[prefix.first]))
    return _extended(bricks, prefix, run, how, stitch, r2, block)


def _extended(
    bricks: Bricks, prefix: Prefix, run: Block, how: Treatment, stitch: Stitch, r2: float, block: nn.Module
) -> Prefix:
    described = {"kind": "stitch", **stitch.to_dict(), "r2": r2}
    return Prefix(
        (*prefix.parts, stitch, block),
        (*prefix.described, described, {**_described(bricks, run), "recalibrated": how}),
        prefix.first,
        run,
    )


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
            pairs = list(_pairs(bricks, prefix, last, chain[0 : len(chain)]))
            refit(head, chain.head, pairs, bricks.pull, bricks.joining.rows)
        tail = Tail("", bricks.cards[last].name, refitted=refitted)
    else:
        layout, images = chain.layout(len(chain)), bricks.labelled[prefix.first]
        if found is None:
            labelled = ((prefix(x), y) for x, y in images)
            head = fit_head(layout, labelled, len(bricks.classes), bricks.head, bricks.head_shrinkage)
        else:
            head = LinearHead(layout, len(bricks.classes))
        tail = Tail("", NewHead(layout, bricks.head, bricks.head_shrinkage, len(images.index), images.images.checksum))
    if found is not None:
        head.load_state_dict(found)
    names = {part["source"] for part in prefix.described if part["kind"] == "block"}
    sources = tuple(Source.of(card) for card in bricks.cards if card.name in names)
    parts = line(prefix.described)
    tails = (replace(tail, after=parts[-1]["name"]),)
    recipe = Reassembled(sources, parts, tails, bricks.cards[prefix.first].input, bricks.classes)
    return ReassembledNetwork(prefix.parts, [head], recipe).eval(), recipe


def _pairs(bricks: Bricks, prefix: Prefix, m: int, own: nn.Module) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """What leaves the prefix, and what leaves the front `own` of network m, for the same images, batch by batch."""
    for (x, _), (y, _) in zip(bricks.fit[prefix.first], bricks.fit[m], strict=True):
        yield prefix(x), own(y)


def _joined(bricks: Bricks, prefix: Prefix, m: int, start: int) -> tuple[Stitch, Stitch, float]:
    """A stitch from the prefix to what enters node start + 1 of network m, the same matched, and its R^2: an edge that
    was fitted before, where the prefix is the front of one network, else fitted to what really leaves it.
    """
    edge = _edge(bricks, prefix, m, start)
    if edge is not None:
        return edge.stitch, edge.matched, edge.r2
    source = bricks.chains[bricks.place(prefix.last.network)].layout(prefix.last.stop)
    target = bricks.chains[m].layout(start)
    forms = [StitchEquations(source, target, patch, bricks.positions) for patch in bricks.patches(source, target)]
    for x, y in _pairs(bricks, prefix, m, bricks.chains[m][0:start]):
        for form in forms:
            form.add(x, y)
    form = better(forms, bricks.joining.ridge)
    stitch = initial(form, bricks.joining.init, bricks.joining.ridge, bricks.seed + len(prefix.parts))
    return stitch, form.matched(stitch), form.r2(bricks.joining.ridge)


def _edge(bricks: Bricks, prefix: Prefix, m: int, start: int) -> Edge | None:
    if len(prefix.parts) > 1:
        return None
    before = bricks.place(prefix.last.network)
    for k in range(1, bricks.sets):
        if (bricks.cuts[before][k], bricks.cuts[m][k]) == (prefix.last.stop, start):
            return bricks.edges.get((k, prefix.last.network, bricks.cards[m].name))
    return None


def _fitted(prefix: Prefix) -> dict[str, torch.Tensor]:
    """What `extend` has fitted last, as tensors."""
    told, (stitch, block) = prefix.described[-2], prefix.parts[-2:]
    found = {f"stitch.{name}": value for name, value in stitch.state_dict().items()}
    found |= {f"block.{name}": value for name, value in block.state_dict().items()}
    return found | {"patch": torch.tensor(told["patch"]), "r2": torch.tensor(told["r2"], dtype=torch.float64)}


def _stitch_of(bricks: Bricks, prefix: Prefix, m: int, start: int, found: Tensors) -> tuple[Stitch, float]:
    source = bricks.chains[bricks.place(prefix.last.network)].layout(prefix.last.stop)
    stitch = make_stitch(source, bricks.chains[m].layout(start), int(found["patch"]), bricks.form)
    stitch.load_state_dict(below("stitch", found))
    return stitch.eval(), float(found["r2"])


def _images(bricks: Bricks, m: int) -> list[Any]:
    """The labelled images of a new head."""
    images = bricks.labelled[m]
    return [images.images.checksum, sha256(images.index.tobytes()).hexdigest(), images.batch_size]


def _described(bricks: Bricks, run: Block) -> dict[str, Any]:
    """As a part of a recipe."""
    nodes = [node.name for node in bricks.chains[bricks.place(run.network)].nodes[run.start : run.stop]]
    return {"kind": "block", "source": run.network, "start": run.start, "stop": run.stop, "nodes": nodes}
