"""Putting a candidate together without training: stitches fitted in forward order, BatchNorm recalibrated, a head."""

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import torch
from torch import nn

from lib import recalibrate
from lib.data import Batch, Loader
from lib.dery.assembly.problem import Path
from lib.dery.bricks import Bricks
from lib.dery.network import ReassembledNetwork, Recipe, Source
from lib.dery.stitching import StitchEquations, fit_head


@torch.no_grad()
def reassemble(bricks: Bricks, path: Path) -> tuple[ReassembledNetwork, Recipe]:
    """Builds a candidate. Each stitch is fitted to the activations that really reach it, then the block behind it has
    its BatchNorm recalibrated; where it has none, the stitch matches the variances of its target instead.

    Differs from the paper: closed-form stitches instead of random ones, so that the network works untrained.
    """
    first, parts, described = path[0], list[nn.Module](), list[dict[str, Any]]()
    previous: tuple[int, int] | None = None
    for m, start, stop in bricks.runs(path):
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


def _mapped(features: nn.Module, batches: Loader) -> Iterator[Batch]:
    for x, y in batches:
        yield features(x), y


def _outputs(module: nn.Module, batches: Loader) -> Iterator[torch.Tensor]:
    for x, _ in batches:
        yield module(x)
