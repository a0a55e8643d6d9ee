"""Edges: the stitches that end in one network, from every other network behind every inner cut, at equal depth or in a
window of it, each fitted once to the networks' own activations, and what is left of that network's answers with this
one stitch in it.

Ours, not in the paper.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel
from torch import nn
from torch.nn import functional as F

from ...base import artifacts, environment, memo
from ...base.errors import BrickyardError
from ...base.memo import Memo, below
from ...base.progress import track
from ...base.stored import CHECKED
from ...chain.layout import Layout
from ...fit import batchnorm
from ...fit.exact import exact
from ...network.modules import Form, Stitch, make_stitch
from ...trace.duplicate import duplicate
from .fronts import Fronts, fingerprint
from .material import Bricks
from .stitching import Edge, Joint, Step, StitchEquations, better, initial, settled

FILE, WEIGHTS = "edges.json", "edges.safetensors"


class Row(BaseModel):
    """An edge as edges.json has it; its weights stand beside it."""

    model_config = CHECKED
    boundary: int
    source: str
    patch: int
    r2: float
    kl: float
    shift: int = 0


class Rows(BaseModel):
    """edges.json: all edges that end in `target`."""

    model_config = CHECKED
    target: str
    edges: list[Row]


def fit(bricks: Bricks, target: str, fronts: Fronts, kept: Memo) -> list[Edge]:
    """All edges that end in a network, by boundary and source. kept: pairs that were fitted before are found there.

    Raises BrickyardError where two networks cannot be joined: activations or answers that are not finite.
    """
    n = bricks.place(target)
    others = [m for m in range(len(bricks.cards)) if m != n]
    how = [bricks.joining.model_dump(), bricks.seed]
    found = []
    for m in track(others, f"edges to {target}", len(others)):
        key = memo.key(Path(__file__), fingerprint(bricks, m), fingerprint(bricks, n), *how)
        tensors = kept.get(key)
        if tensors is None:
            made = _pair(bricks, m, n, fronts)
            kept.put(key, {name: tensor for edge in made for name, tensor in as_tensors(edge).items()})
            fronts.kept.prune()  # a large zoo's do not fit all at once
        else:
            made = [_restored(bricks, m, n, step, tensors) for step in bricks.steps]
        found += made
    return sorted(found, key=lambda edge: (abs(edge.shift), edge.shift, edge.boundary, edge.source))


@torch.no_grad()
def _pair(bricks: Bricks, m: int, n: int, fronts: Fronts) -> list[Edge]:
    """The edges from network m to network n."""
    source, target = bricks.cards[m].name, bricks.cards[n].name
    forms = {step: _forms(bricks, m, n, step) for step in bricks.steps}
    for (xs, _), (ys, _) in zip(fronts.of(m), fronts.of(n), strict=True):
        if not all(torch.isfinite(one).all() for one in (*xs, *ys)):
            raise _apart(source, target, "activations")
        for (k, shift), own in forms.items():
            for form in own:
                form.add(xs[k - 1], ys[k + shift - 1])
    found = []
    for (k, shift), own in forms.items():
        form = better(own, bricks.joining.ridge)
        stitch = initial(form, bricks.joining.init, bricks.joining.ridge, bricks.seed + 1)
        edge = Edge(k, source, target, stitch, form.matched(stitch), form.r2(bricks.joining.ridge), 0.0, shift)
        found.append(replace(edge, kl=_replace_one(bricks, m, n, edge, fronts)))
        if not isfinite(found[-1].kl):
            raise _apart(source, target, f"answers with its stitch behind set {k}")
    return found


def _apart(source: str, target: str, what: str) -> BrickyardError:
    return BrickyardError(f"{source} cannot be joined to {target}: {what} are not finite; leave one of them out")


def _forms(bricks: Bricks, m: int, n: int, step: Step) -> list[StitchEquations]:
    source, target = _ends(bricks, m, n, step)
    return [StitchEquations(source, target, patch, bricks.positions) for patch in bricks.patches(source, target)]


def _ends(bricks: Bricks, m: int, n: int, step: Step) -> tuple[Layout, Layout]:
    """What crosses the cut of network m where a stitch begins, and that of network n where it ends."""
    k, shift = step
    return bricks.chains[m].layout(bricks.cuts[m][k]), bricks.chains[n].layout(bricks.cuts[n][k + shift])


def _replace_one(bricks: Bricks, m: int, n: int, edge: Edge, fronts: Fronts) -> float:
    """KL of the answers of network n with a front of network m from its own, mean over `edges.kl_images`."""
    k = edge.boundary

    def arriving() -> Iterator[torch.Tensor]:
        return (xs[k - 1] for xs, _ in fronts.of(m, bricks.joining.kl_images))

    return replaced(bricks, n, bricks.cuts[n][k + edge.shift], edge, arriving, fronts)


def replaced(
    bricks: Bricks, n: int, start: int, edge: Edge, arriving: Callable[[], Iterator[torch.Tensor]], fronts: Fronts
) -> float:
    """KL of the answers of network n, given through a stitch what is not its own at its boundary `start`, from its own,
    mean over `edges.kl_images`, those that arrive; statistics behind the stitch are those of what arrives.
    """
    chain = bricks.chains[n]
    back: nn.Module = duplicate(chain[start : len(chain)]) if start < len(chain) else nn.Identity()
    stitch = settled(edge.stitch if batchnorm.has_batchnorm(back) else edge.matched, arriving())
    return unlike(bricks, n, back, lambda: (stitch(x) for x in arriving()), fronts)


def unlike(
    bricks: Bricks, n: int, back: nn.Module, entering: Callable[[], Iterator[torch.Tensor]], fronts: Fronts
) -> float:
    """KL of what the head of network n answers behind `back`, whose statistics become those of what is entering."""
    head, total, count = duplicate(bricks.chains[n].head), 0.0, 0
    only = batchnorm.batchnorm(back, entering())
    leaving = map(back, entering()) if only is None else [only]
    for y, (_, own) in zip(leaving, fronts.of(n, bricks.joining.kl_images), strict=True):
        made, given = (F.log_softmax(exact(one), 1) for one in (head(y), own))
        total += float(F.kl_div(made, given, reduction="sum", log_target=True))
        count += len(own)
    return total / count


def as_tensors(edge: Edge) -> dict[str, torch.Tensor]:
    """An edge as tensors that begin with its boundary."""
    forms = {"stitch": edge.stitch, "matched": edge.matched}
    weights = {f"{name}.{key}": value for name, form in forms.items() for key, value in form.state_dict().items()}
    told = {"patch": torch.tensor(edge.stitch.patch), "told": torch.tensor([edge.r2, edge.kl], dtype=torch.float64)}
    return {f"{_title((edge.boundary, edge.shift))}.{name}": value for name, value in (weights | told).items()}


def _title(step: Step) -> str:
    k, shift = step
    return f"{k}_to_{k + shift}" if shift else str(k)


def _restored(bricks: Bricks, m: int, n: int, step: Step, tensors: Mapping[str, torch.Tensor]) -> Edge:
    """The inverse of `as_tensors`."""
    source, target = bricks.cards[m].name, bricks.cards[n].name
    edge = from_tensors(step, (source, target), _ends(bricks, m, n, step), bricks.form, tensors)
    return edge.to(bricks.device)


def from_tensors(
    step: Step, names: tuple[str, str], ends: tuple[Layout, Layout], form: Form, tensors: Mapping[str, torch.Tensor]
) -> Edge:
    """The inverse of `as_tensors`: between two networks, with what crosses its ends."""
    own, forms = below(_title(step), tensors), list[Stitch]()
    for name in ("stitch", "matched"):
        stitch = make_stitch(*ends, int(own["patch"]), form)
        stitch.load_state_dict(below(name, own))
        forms.append(stitch.eval())
    r2, kl = own["told"].tolist()
    return Edge(step[0], *names, forms[0], forms[1], r2, kl, step[1])


def save(folder: Path, target: str, edges: Sequence[Edge]) -> None:
    """Writes edges.json and edges.safetensors."""
    rows = [
        {"boundary": e.boundary, "source": e.source, "patch": e.stitch.patch, "r2": e.r2, "kl": e.kl}
        | ({"shift": e.shift} if e.shift else {})
        for e in edges
    ]
    tensors = {f"{edge.source}.{name}": value for edge in edges for name, value in as_tensors(edge).items()}
    artifacts.write_tensors(folder / WEIGHTS, tensors)
    artifacts.write_json(folder / FILE, {"target": target, "edges": rows}, environment.machine())


def load(bricks: Bricks, folder: Path) -> dict[Joint, Edge]:
    """The edges between all networks of `bricks`, below `folder`, by what they join.

    Raises BrickyardError where one is missing, or of other networks or cuts.
    """
    found = {}
    for n, target in enumerate(bricks.cards):
        at = folder / target.name
        told, tensors = artifacts.read_json(at / FILE, Rows), artifacts.read_tensors(at / WEIGHTS)
        if told["target"] != target.name:
            raise BrickyardError(f"{at} holds the edges to {told['target']}; dvc repro")
        known = {(row["boundary"], row.get("shift", 0), row["source"]) for row in told["edges"]}
        for m, (k, shift) in product(range(len(bricks.cards)), bricks.steps):
            source = bricks.cards[m].name
            if m == n:
                continue
            which = f"edge from {source} behind set {k}" + (f" to set {k + shift + 1}" if shift else "")
            if (k, shift, source) not in known:
                raise BrickyardError(f"{at}: has no {which}; dvc repro")
            try:
                edge = _restored(bricks, m, n, (k, shift), below(source, tensors))
            except (KeyError, RuntimeError, ValueError):
                raise BrickyardError(f"{at}: its {which} is another's; dvc repro") from None
            found[edge.joint] = edge
    return found


def figures(edges: Sequence[Edge]) -> dict[str, Any]:
    """R^2 and KL by boundary and source, for metrics."""
    found: dict[str, Any] = {}
    for edge in edges:
        where = f"behind_{_title((edge.boundary, edge.shift))}"
        found.setdefault(where, {})[edge.source] = {"r2": edge.r2, "kl": edge.kl}
    return found
