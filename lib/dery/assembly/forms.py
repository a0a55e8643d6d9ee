"""Smaller forms of a network's blocks, each of which fits where the whole one does: narrow, or without a node.

Narrow: of the channels that a block makes for itself alone, those that the classes need most (contributions of MDA, see
`lib.mda`), repaired in closed form to give what the whole block gave for the network's own activations. Without a node:
a stitch, fitted to what that made, stands in its place. Each is priced like an edge: by R^2 and by what is left of the
network's answers with this one form in it. Ours; here the two papers meet.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel
from torch import nn

from ...base import artifacts, environment
from ...base.errors import BrickyardError
from ...base.memo import below
from ...base.progress import track
from ...base.stored import CHECKED
from ...chain.chain import Chain
from ...fit.exact import exact
from ...network import component as recipes
from ...network import files
from ...network.blocks import Block
from ...trace.duplicate import duplicate
from ...zoo.architecture import Trust
from ...zoo.card import Card
from . import edges
from .fronts import Fronts
from .material import Bricks, Narrow, Smaller
from .stitching import Edge, StitchEquations, better, initial

FILE, WEIGHTS = "bricks.json", "bricks.safetensors"


class Row(BaseModel):
    """A form as bricks.json has it."""

    model_config = CHECKED
    set: int
    block: dict[str, Any]
    r2: float
    kl: float


class Rows(BaseModel):
    """bricks.json: all forms of `network`; whole: why it has no narrow ones, where they were wanted."""

    model_config = CHECKED
    network: str
    forms: list[Row]
    widths: list[float]
    whole: str | None = None


def are_apart(bricks: Bricks, name: str) -> bool:
    """Whether no blocks of a network have weights or operations in common; else none of them can change by itself."""
    m = bricks.place(name)
    chain, cuts = bricks.chains[m], bricks.cuts[m]
    costs = [chain.cost(start, stop) for start, stop in pairwise(cuts)]
    together = chain.cost(0, len(chain))
    return (sum(c.params for c in costs), sum(c.macs for c in costs)) == (together.params, together.macs)


def check_apart(bricks: Bricks, name: str) -> None:
    """Raises BrickyardError naming the network where that is not so."""
    if not are_apart(bricks, name):
        raise BrickyardError(f"bricks: blocks of {name} have weights in common, so none has another form by itself")


@torch.no_grad()
def priced(bricks: Bricks, name: str, fronts: Fronts) -> list[Smaller]:
    """Every narrow block of a network, of the widths in `bricks.narrow`."""
    m, found = bricks.place(name), list[Smaller]()
    chain, cuts, joining = bricks.chains[m], bricks.cuts[m], bricks.joining
    for (network, width), own in bricks.narrow.items():
        for k, (start, stop) in enumerate(pairwise(cuts), start=1):
            block, given = duplicate(own.chain[start:stop]), duplicate(chain[start:stop])
            if network != name or own.chain.cost(start, stop).params == chain.cost(start, stop).params:
                continue

            def leaving(block: nn.Module = block, k: int = k) -> Iterator[torch.Tensor]:
                return (block(x.clone()) for x in _entering(bricks, m, k, fronts, joining.kl_images))

            unexplained, spread = 0.0, _Spread()
            for x in _entering(bricks, m, k, fronts):
                made, wanted = block(x.clone()), given(x.clone())
                unexplained += float((exact(made) - exact(wanted)).square().sum())
                spread.add(wanted)
            back: nn.Module = duplicate(chain[stop : len(chain)]) if stop < len(chain) else nn.Identity()
            kl = edges.unlike(bricks, m, back, leaving, fronts)
            r2 = 1 - unexplained / max(float(spread.total), torch.finfo(torch.float64).tiny)
            found.append(Smaller(Block(name, start, stop, width), k, r2, kl))
    return found


class _Spread:
    """Squared deviations from every channel's mean, summed over batches, positions and channels."""

    def __init__(self) -> None:
        self.count, self.sums, self.squares = 0, torch.zeros(()), torch.zeros((), dtype=torch.float64)

    def add(self, y: torch.Tensor) -> None:
        """A batch more: maps [n, c, h, w] or tokens [n, t, c]."""
        rows = exact((y.flatten(2).transpose(1, 2) if y.ndim == 4 else y).flatten(0, -2))
        self.count, self.sums = self.count + len(rows), self.sums + rows.sum(0)
        self.squares = self.squares + rows.square().sum()

    @property
    def total(self) -> torch.Tensor:
        """Over all batches."""
        return self.squares - self.sums.square().sum() / self.count


def _entering(bricks: Bricks, m: int, k: int, fronts: Fronts, images: int | None = None) -> Iterator[torch.Tensor]:
    """What enters the block of set k of network m, batch by batch; images: the first so many alone."""
    if k > 1:
        yield from (xs[k - 2] for xs, _ in fronts.of(m, images))
        return
    for x, _ in bricks.fit[m]:
        yield x if images is None else x[:images]
        if images is not None and (images := images - len(x)) <= 0:
            return


@torch.no_grad()
def skipped(bricks: Bricks, name: str, fronts: Fronts) -> list[Smaller]:
    """Every block of a network without one of its nodes, where a stitch can stand; the first node of the network stays,
    and so does the last. A node that is a whole block makes the empty form of its set.
    """
    m, found = bricks.place(name), list[Smaller]()
    chain, cuts, joining = bricks.chains[m], bricks.cuts[m], bricks.joining
    for k, (start, stop) in enumerate(pairwise(cuts), start=1):
        nodes = [i for i in range(start, stop) if 0 < i < len(chain) - 1]
        steps = [chain[i : i + 1] for i in range(start, stop)]
        equations = {i: _equations(bricks, m, i) for i in nodes}
        for x in _entering(bricks, m, k, fronts):
            for i, step in enumerate(steps, start=start):
                y = step(x.clone())
                for one in equations.get(i, ()):
                    one.add(x, y)
                x = y
        for i in track(nodes, f"nodes of {name}, set {k}", len(nodes)):
            form = better(equations[i], joining.ridge)
            stitch = initial(form, joining.init, joining.ridge, bricks.seed + 1)
            edge = Edge(k, name, name, stitch, form.matched(stitch), form.r2(joining.ridge), 0.0)
            front = duplicate(chain[start:i]) if i > start else nn.Identity()

            def arriving(front: nn.Module = front, k: int = k) -> Iterator[torch.Tensor]:
                return (front(x.clone()) for x in _entering(bricks, m, k, fronts, joining.kl_images))

            edge = replace(edge, kl=edges.replaced(bricks, m, i + 1, edge, arriving, fronts))
            found.append(Smaller(Block(name, start, stop, without=(i, i + 1)), k, edge.r2, edge.kl, edge))
    return found


def _equations(bricks: Bricks, m: int, i: int) -> list[StitchEquations]:
    source, target = bricks.chains[m].layout(i), bricks.chains[m].layout(i + 1)
    return [StitchEquations(source, target, patch, bricks.positions) for patch in bricks.patches(source, target)]


def opened(card: Card, network: nn.Module, recipe: recipes.Component, device: torch.device | str = "cpu") -> Narrow:
    """A narrow network as bricks are taken from it, on a device."""
    chain = Chain(card.name, network, card.input.shape, declared=card.nodes).to(torch.device(device))
    return Narrow(chain, recipe.kept, artifacts.tensor_checksum(network.state_dict()))


def save(
    folder: Path,
    name: str,
    forms: Sequence[Smaller],
    narrow: Mapping[float, tuple[nn.Module, recipes.Component]],
    why: str | None,
) -> None:
    """Writes bricks.json, bricks.safetensors and a network a width; why: there are none, where they were wanted."""
    rows = [{"set": one.set, "block": one.block.to_dict(), "r2": one.r2, "kl": one.kl} for one in forms]
    tensors = {
        f"{_title(one.block)}.{key}": value
        for one in forms
        if one.edge is not None
        for key, value in edges.as_tensors(one.edge).items()
    }
    for width, (network, recipe) in narrow.items():
        files.save(folder / f"{width}", network, recipe)
    artifacts.write_tensors(folder / WEIGHTS, tensors)
    told = {"network": name, "forms": rows, "widths": list(narrow), "whole": why}
    artifacts.write_json(folder / FILE, told, environment.machine())


def narrow_networks(folder: Path, trust: Trust = False) -> Iterator[tuple[float, nn.Module]]:
    """By width, those that `save` has written to `folder`, if it has; trust: as for `files.load_as`."""
    if (folder / FILE).exists():
        yield from ((width, network) for width, (network, _) in _narrow(folder, trust))


def _narrow(folder: Path, trust: Trust) -> Iterator[tuple[float, tuple[nn.Module, recipes.Component]]]:
    for width in artifacts.read_json(folder / FILE, Rows)["widths"]:
        yield width, files.load_as(recipes.Component, folder / f"{width}", trust)


def load(bricks: Bricks, folder: Path, trust: Trust = False) -> Bricks:
    """`bricks` with the forms of all its networks, below `folder`.

    trust: as for `files.load_as`. Raises BrickyardError where some are missing, or of other networks or cuts.
    """
    forms, narrow = dict[str, list[Smaller]](), dict[tuple[str, float], Narrow]()
    for m, card in enumerate(bricks.cards):
        at = folder / card.name
        told, tensors = artifacts.read_json(at / FILE, Rows), artifacts.read_tensors(at / WEIGHTS)
        chain, cuts, own = bricks.chains[m], bricks.cuts[m], list[Smaller]()
        for width, made in _narrow(at, trust):
            narrow[card.name, width] = opened(card, *made, bricks.device)
        for row in told["forms"]:
            block, k = Block.from_dict(row["block"]), row["set"]
            if (block.network, block.start, block.stop) != (card.name, *cuts[k - 1 : k + 1]):
                raise BrickyardError(f"{at}: {block} is no block of set {k} here; dvc repro")
            edge = None
            if block.without:
                i, j = block.without
                ends = chain.layout(i), chain.layout(j)
                try:
                    own_tensors = below(_title(block), tensors)
                    edge = edges.from_tensors((k, 0), (card.name, card.name), ends, bricks.form, own_tensors)
                    edge.to(bricks.device)
                except (KeyError, RuntimeError, ValueError):
                    raise BrickyardError(f"{at}: its stitch {block.form} is another's; dvc repro") from None
            own.append(Smaller(block, k, row["r2"], row["kl"], edge))
        forms[card.name] = own
    return replace(bricks, forms=forms, narrow=narrow)


def _title(block: Block) -> str:
    return f"{block.start}_{block.stop}_{'_'.join(map(str, block.without))}"


def figures(forms: Sequence[Smaller]) -> dict[str, Any]:
    """R^2 and KL by set and form, for metrics."""
    found: dict[str, Any] = {}
    for one in forms:
        found.setdefault(f"set_{one.set}", {})[one.block.form.replace(" ", "_")] = {"r2": one.r2, "kl": one.kl}
    return found
