"""Putting a candidate together without training: stitches fitted in forward order, BatchNorm recalibrated, a head."""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path as FilePath
from typing import Any

import numpy as np
import torch
from torch import nn

from lib import cost, recalibrate
from lib.chain import Chain
from lib.cost import Cost
from lib.data import Batch, DataSet, Loader, stratified_sample
from lib.dery.assembly import AssemblyProblem, Path
from lib.dery.network import ReassembledNetwork, Recipe, Source
from lib.dery.stitching import LinearHead, Stitch, StitchEquations, fit_head
from lib.layout import Layout
from lib.params.assembly import Assembly, Budget
from lib.progress import track
from lib.zoo import Card, load

SMALLEST_R2 = 1e-6


@dataclass(frozen=True)
class Bricks:
    """What candidates are made of: the zoo's networks, cut into K blocks each, and images to fit them together.

    cuts[m]: K+1 positions; fit[m]: the same unlabelled train images in the same order under network m's own
    transform; labelled[m]: train images for closed-form heads, likewise; classes: those of the task.
    """

    cards: tuple[Card, ...]
    chains: tuple[Chain, ...]
    cuts: tuple[tuple[int, ...], ...]
    fit: tuple[Loader, ...]
    labelled: tuple[Loader, ...]
    classes: tuple[str, ...]
    ridge: float

    def keeps_head(self, m: int) -> bool:
        """Whether network m already answers with the task's classes, so that its own head serves."""
        return self.cards[m].classes == self.classes

    def whole(self, m: int) -> Path:
        """The path of the unmodified network m, as it would be used for the task."""
        return (m,) * (len(self.cuts[m]) - 1)


def open_bricks(
    zoo: FilePath, names: list[str], partition: dict[str, Any], data: DataSet, params: Assembly, seed: int
) -> Bricks:
    """Opens the networks `names` below `zoo` and cuts them as `partition` (its JSON form) says."""
    opened = [load(zoo / name) for name in names]
    labelled = stratified_sample(data.images, data.train, params.head_images, seed)
    transforms = [card.input.transform() for _, card in opened]
    return Bricks(
        cards=tuple(card for _, card in opened),
        chains=tuple(Chain(card.name, model, card.input.shape, declared=card.nodes) for model, card in opened),
        cuts=tuple(tuple(partition["models"][name]["cuts"]) for name in names),
        fit=tuple(Loader(data.images, data.probe, t, params.batch_size) for t in transforms),
        labelled=tuple(Loader(data.images, labelled, t, params.batch_size) for t in transforms),
        classes=data.images.classes,
        ridge=params.ridge,
    )


@torch.no_grad()
def stitch_r2(bricks: Bricks) -> np.ndarray:
    """R^2 of the ridge map from each block's output to the next block's input in every other network: [K-1, N, N].

    Both sides are the networks' own activations, unpooled; 1 on the diagonal; clipped below at 1e-6.
    """
    networks, sets = range(len(bricks.chains)), range(len(bricks.cuts[0]) - 2)
    layouts = [[bricks.chains[m].layout(bricks.cuts[m][k + 1]) for m in networks] for k in sets]
    equations = {
        (k, m, n): StitchEquations(layouts[k][m], layouts[k][n])
        for k in sets
        for m in networks
        for n in networks
        if m != n
    }
    for batches in track(zip(*bricks.fit, strict=True), "stitch R²", total=len(bricks.fit[0])):
        at_cuts = [_at_cuts(bricks, m, x) for m, (x, _) in enumerate(batches)]
        for (k, m, n), equation in equations.items():
            equation.add(at_cuts[m][k], at_cuts[n][k])
    r2 = np.ones((len(sets), len(networks), len(networks)))
    for index, equation in equations.items():
        r2[index] = max(equation.r2(bricks.ridge), SMALLEST_R2)
    return r2


def problem(bricks: Bricks, r2: np.ndarray, budget: Budget, min_sources: int) -> AssemblyProblem:
    """The integer program's data: costs of blocks, stitches and heads, log R^2 as the score of a stitch."""
    networks, sets = range(len(bricks.chains)), range(len(bricks.cuts[0]) - 1)
    heads = tuple(
        c.head_cost if bricks.keeps_head(m) else _head_cost(c.layout(len(c)), len(bricks.classes))
        for m, c in enumerate(bricks.chains)
    )
    layouts = [[c.layout(cuts[k + 1]) for c, cuts in zip(bricks.chains, bricks.cuts, strict=True)] for k in sets]
    return AssemblyProblem(
        names=tuple(card.name for card in bricks.cards),
        blocks=tuple(tuple(bricks.chains[m].cost(*bricks.cuts[m][k : k + 2]) for m in networks) for k in sets),
        stitches=tuple(
            tuple(
                tuple(Cost() if m == n else _stitch_cost(layouts[k][m], layouts[k][n]) for n in networks)
                for m in networks
            )
            for k in sets[:-1]
        ),
        heads=heads,
        scores=np.log(r2),
        params=budget.params,
        macs=budget.macs,
        min_sources=min_sources,
    )


@torch.no_grad()
def reassemble(bricks: Bricks, path: Path) -> tuple[ReassembledNetwork, Recipe]:
    """Builds a candidate. Each stitch is fitted to the activations that really reach it, then the block behind it has
    its BatchNorm recalibrated; where it has none, the stitch matches the variances of its target instead.

    Differs from the paper: closed-form stitches instead of random ones, so that the network works untrained.
    """
    first, parts, described = path[0], list[nn.Module](), list[dict[str, Any]]()
    previous: tuple[int, int] | None = None
    for m, start, stop in _runs(bricks, path):
        chain = bricks.chains[m]
        block = deepcopy(chain[start:stop])
        if previous is not None:
            source, target = bricks.chains[previous[0]].layout(previous[1]), chain.layout(start)
            so_far, own = nn.Sequential(*parts), chain[0:start]
            equations = StitchEquations(source, target)
            for (x, _), (y, _) in zip(bricks.fit[first], bricks.fit[m], strict=True):
                equations.add(so_far(x), own(y))
            stitch = equations.solve(bricks.ridge, match_variance=not recalibrate.has_batchnorm(block)).eval()
            parts.append(stitch)
            described.append({"kind": "stitch", "source": source.to_dict(), "target": target.to_dict()})
            recalibrate.batchnorm(block, _outputs(nn.Sequential(*parts), bricks.fit[first]))
        parts.append(block)
        described.append({"kind": "block", "source": bricks.cards[m].name, "start": start, "stop": stop})
        previous = (m, stop)
    last = path[-1]
    if bricks.keeps_head(last):
        head: nn.Module = deepcopy(bricks.chains[last].head)
        head_recipe: str | dict[str, Any] = bricks.cards[last].name
    else:
        layout = bricks.chains[last].layout(len(bricks.chains[last]))
        labelled = _mapped(nn.Sequential(*parts), bricks.labelled[first])
        head = fit_head(layout, labelled, len(bricks.classes), bricks.ridge)
        head_recipe = layout.to_dict()
    sources = {bricks.cards[m].name: Source.of(bricks.cards[m]) for m in sorted(set(path))}
    recipe = Recipe(sources, tuple(described), head_recipe, bricks.cards[first].input, bricks.classes)
    return ReassembledNetwork(parts, head).eval(), recipe


def _runs(bricks: Bricks, path: Path) -> Iterator[tuple[int, int, int]]:
    """(network, first boundary, last boundary) of each run of consecutive blocks from one network."""
    changes = [0, *(k for k in range(1, len(path)) if path[k] != path[k - 1]), len(path)]
    for k, after in pairwise(changes):
        m = path[k]
        yield m, bricks.cuts[m][k], bricks.cuts[m][after]


def _at_cuts(bricks: Bricks, m: int, x: torch.Tensor) -> list[torch.Tensor]:
    """What crosses the inner cuts of network m for a batch."""
    crossing = []
    for start, stop in pairwise(bricks.cuts[m][:-1]):
        x = bricks.chains[m][start:stop](x)
        crossing.append(x.clone())
    return crossing


def _mapped(features: nn.Module, batches: Loader) -> Iterator[Batch]:
    for x, y in batches:
        yield features(x), y


def _outputs(module: nn.Module, batches: Loader) -> Iterator[torch.Tensor]:
    for x, _ in batches:
        yield module(x)


@cache
def _stitch_cost(source: Layout, target: Layout) -> Cost:
    return cost.count(Stitch(source, target), source.shape)


@cache
def _head_cost(source: Layout, num_classes: int) -> Cost:
    return cost.count(LinearHead(source, num_classes), source.shape)
