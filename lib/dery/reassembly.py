"""Putting a candidate together without training: stitches fitted in forward order, BatchNorm recalibrated, a head."""

from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from lib import recalibrate
from lib.dery.assembly.problem import Path
from lib.dery.bricks import Bricks
from lib.dery.heads import fit_head
from lib.dery.network import ReassembledNetwork
from lib.dery.recipe import NewHead, Recipe, Source
from lib.dery.stitching import StitchEquations, identity, random
from lib.refit import refit


@dataclass(frozen=True)
class Prefix:
    """The first parts of a candidate, fitted: modules and their description for a recipe. Prefixes of candidates that
    begin alike can be shared: no step changes the one before.
    """

    parts: tuple[nn.Module, ...]
    described: tuple[dict[str, Any], ...]
    first: int  # network whose images enter
    last: int  # network and boundary behind which the prefix ends
    stop: int

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """A batch of images of network `first` -> the activation that leaves the prefix."""
        for part in self.parts:
            x = part(x)
        return x


def reassemble(bricks: Bricks, path: Path) -> tuple[ReassembledNetwork, Recipe]:
    """Builds a candidate. Each stitch is fitted to the activations that really reach it, then the block behind it has
    its BatchNorm recalibrated; where it has none, the stitch matches the variances of its target instead.

    Differs from the paper: closed-form stitches instead of random ones, so that the network works untrained.
    """
    first, *others = bricks.runs(path)
    prefix = begin(bricks, *first)
    for run in others:
        prefix = extend(bricks, prefix, *run)
    return finish(bricks, prefix)


def begin(bricks: Bricks, m: int, start: int, stop: int) -> Prefix:
    """The first run of blocks, as it is in its source."""
    return Prefix((deepcopy(bricks.chains[m][start:stop]),), (_block(bricks, m, start, stop),), m, m, stop)


@torch.no_grad()
def extend(bricks: Bricks, prefix: Prefix, m: int, start: int, stop: int) -> Prefix:
    """One stitch and one run of blocks more."""
    chain, images = bricks.chains[m], bricks.fit[prefix.first]
    source, target = bricks.chains[prefix.last].layout(prefix.stop), chain.layout(start)
    block, own = deepcopy(chain[start:stop]), chain[0:start]
    settings = bricks.stitching
    forms = [StitchEquations(source, target, patch) for patch in bricks.patches(source, target)]
    for (x, _), (y, _) in zip(images, bricks.fit[m], strict=True):
        leaving, entering = prefix(x), own(y)
        for form in forms:
            form.add(leaving, entering)
    equations = max(forms, key=lambda form: form.held_out_r2(bricks.ridge)) if len(forms) > 1 else forms[0]
    if settings.init == "least_squares":
        stitch = equations.fitted(bricks.ridge)
    elif settings.init == "random":
        stitch = random(source, target, equations.patch, bricks.seed + len(prefix.parts))
    else:
        stitch = identity(source, target, equations.patch)
    if settings.recalibrate != "none" and not recalibrate.has_batchnorm(block):
        stitch = equations.matched(stitch)
    if settings.recalibrate == "layers":
        pairs = [(stitch(prefix(x)), own(y)) for (x, _), (y, _) in zip(images, bricks.fit[m], strict=True)]
        refit(block, chain[start:stop], pairs, settings.pull)
    elif settings.recalibrate != "none":
        recalibrate.batchnorm(block, (stitch(prefix(x)) for x, _ in images))
    described = {"kind": "stitch", **stitch.to_dict(), "r2": equations.r2(bricks.ridge)}
    return Prefix(
        (*prefix.parts, stitch, block),
        (*prefix.described, described, _block(bricks, m, start, stop)),
        prefix.first,
        m,
        stop,
    )


@torch.no_grad()
def finish(bricks: Bricks, prefix: Prefix) -> tuple[ReassembledNetwork, Recipe]:
    """The network with its head: that of the last source where it knows the task's classes, else in closed form."""
    last = prefix.last
    if bricks.keeps_head(last):
        chain = bricks.chains[last]
        head: nn.Module = deepcopy(chain.head)
        if len(prefix.parts) > 1 and bricks.stitching.recalibrate in ("head", "layers"):
            whole, both = chain[0 : len(chain)], zip(bricks.fit[prefix.first], bricks.fit[last], strict=True)
            refit(head, chain.head, [(prefix(x), whole(y)) for (x, _), (y, _) in both], bricks.stitching.pull)
        head_recipe: str | NewHead = bricks.cards[last].name
    else:
        layout = bricks.chains[last].layout(len(bricks.chains[last]))
        images = bricks.labelled[prefix.first]
        labelled = ((prefix(x), y) for x, y in images)
        head = fit_head(layout, labelled, len(bricks.classes), bricks.head, bricks.head_shrinkage)
        head_recipe = NewHead(layout, bricks.head, bricks.head_shrinkage, len(images.index), images.images.checksum)
    names = {part["source"] for part in prefix.described if part["kind"] == "block"}
    sources = {card.name: Source.of(card) for card in bricks.cards if card.name in names}
    recipe = Recipe(sources, prefix.described, head_recipe, bricks.cards[prefix.first].input, bricks.classes)
    return ReassembledNetwork(prefix.parts, head, recipe).eval(), recipe


def _block(bricks: Bricks, m: int, start: int, stop: int) -> dict[str, Any]:
    nodes = [node.name for node in bricks.chains[m].nodes[start:stop]]
    return {"kind": "block", "source": bricks.cards[m].name, "start": start, "stop": stop, "nodes": nodes}
