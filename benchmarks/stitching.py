"""Hybrids of two networks without training or labels: what to do in and behind a stitch.

python -m benchmarks.stitching [--zoo FOLDER] [--dataset FOLDER] [--networks NAME,NAME] [--images N] [--only NAME,NAME]

For each ordered pair of networks and the cuts at about 1/3 and 2/3 of their nodes: the front of the one, a stitch, the
back and the head of the other. Everything is fitted on N train images without their labels; accuracy is that on at most
1000 validation images, in percent. CPU seconds are those of the treatment, activations of the two networks given.
`change` is the mean over the layers of the back and head of ||W - W0|| / ||W0||, W the weights of linear layers and
convolutions.

The first rows are what `edges.init` and `assembly.treatment` offer, the others what they do not. In this table `layers`
is what `layers_and_head` is there; with the head as it is, as with `layers` there, it is `layers + own head`.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table as Printed
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from lib.chain.chain import Chain
from lib.chain.layout import Layout
from lib.dery.assembly.refit import refit
from lib.dery.assembly.stitching import StitchEquations, random, rows, takes_patches
from lib.fit import batchnorm
from lib.images import data
from lib.network.files import load_as
from lib.network.modules import Stitch
from lib.trace.watching import around, order
from lib.zoo.card import Card

SEED, VALIDATION, BATCH, RIDGE, PULL = 0, 1000, 64, 1e-4, 1e-2
DEPTHS = (1 / 3, 2 / 3)
Batches = list[torch.Tensor]
Pairs = Sequence[tuple[torch.Tensor, torch.Tensor]]
Stitching = Callable[[Layout, Layout, Pairs], Stitch]
Change = Callable[[nn.Module, nn.Module, Pairs], None]


@dataclass(frozen=True)
class Treatment:
    """How a stitch is made, what is done to the blocks behind it, what to the head."""

    stitch: Stitching
    blocks: Change
    head: Change


@dataclass
class Network:
    """A network with its activations at the cuts: batches of `fit` and `validation` images."""

    chain: Chain
    cuts: list[int]
    fit: dict[int, Batches]
    validation: dict[int, Batches]
    labels: torch.Tensor
    accuracy: float


@torch.no_grad()
def main() -> None:
    """Prints the table and, as the last line, the means as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stitching", description=str(__doc__).splitlines()[0])
    parser.add_argument("--zoo", type=Path, default=Path("artifacts/zoo"))
    parser.add_argument("--dataset", type=Path, default=Path("artifacts/dataset"))
    parser.add_argument("--networks", default="resnet,efficientnet,convnext,vit")
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--only", default=",".join(TREATMENTS))
    arguments = parser.parse_args()
    names = arguments.networks.split(",")
    if not all((arguments.zoo / name / "card.json").exists() for name in names):
        parser.error(f"{arguments.zoo} lacks one of {', '.join(names)}: ./run dvc repro zoo")
    treatments = arguments.only.split(",")
    if unknown := [name for name in treatments if name not in TREATMENTS]:
        parser.error(f"--only: there is no {unknown[0]!r}; there are {', '.join(TREATMENTS)}")
    torch.set_num_threads(1)
    images = data.load(arguments.dataset, Path(".scratch"))
    networks = {name: opened(arguments.zoo / name, images, arguments.images) for name in names}
    found = {name: measured(TREATMENTS[name], networks) for name in treatments}
    printed = Printed("treatment", *(f"-> {name}" for name in names), "mean", "CPU s", "change")
    printed.add_row("(the network itself)", *(f"{networks[name].accuracy:.1f}" for name in names))
    for treatment, rows_ in found.items():
        into = [mean(r["accuracy"] for r in rows_ if r["into"] == name) for name in names]
        columns = [mean(r[key] for r in rows_) for key in ("accuracy", "seconds", "change")]
        figures = [f"{x:.{digits}f}" for x, digits in zip(columns, (1, 2, 3), strict=True)]
        printed.add_row(treatment, *(f"{x:.1f}" for x in into), *figures)
    Console(width=160).print(printed)
    sources = {name: networks[name].accuracy for name in names}
    means = {name: round(mean(r["accuracy"] for r in found[name]), 2) for name in found}
    print(json.dumps({"hybrids": len(next(iter(found.values()))), "sources": sources, "mean_accuracy": means}))


def opened(folder: Path, images: data.DataSet, count: int) -> Network:
    """A network of the zoo, run on both sets of images."""
    model, card = load_as(Card, folder, trust=True)
    chain = Chain(card.name, model, card.input.shape, declared=card.nodes)
    cuts = [min(range(1, len(chain)), key=lambda q: abs(q / len(chain) - depth)) for depth in DEPTHS]
    generator, transform = np.random.default_rng(SEED), card.input.transform()
    chosen = [generator.permutation(index)[:n] for index, n in ((images.train, count), (images.validation, VALIDATION))]
    fit, validation = (data.Loader(images.images, index, transform, BATCH) for index in chosen)
    kept: list[dict[int, Batches]] = [{at: [] for at in (*cuts, len(chain), len(chain) + 1)} for _ in range(2)]
    for own, loader in zip(kept, (fit, validation), strict=True):
        for x, _ in loader:
            for at, y in enumerate(chain.walk(x.clone()), start=1):
                if at in own:
                    own[at].append(y.clone())
            own[len(chain) + 1].append(chain.head(own[len(chain)][-1].clone()))
    labels = torch.from_numpy(validation.labels)
    return Network(chain, cuts, kept[0], kept[1], labels, _accuracy(kept[1][len(chain) + 1], labels))


def measured(treatment: Treatment, networks: dict[str, Network]) -> list[dict[str, Any]]:
    """Of each hybrid: accuracy, CPU seconds and change of the weights."""
    found: list[dict[str, Any]] = []
    for first, last in permutations(networks, 2):
        front, back = networks[first], networks[last]
        for p, q in zip(front.cuts, back.cuts, strict=True):
            own, head = back.chain[q : len(back.chain)], back.chain.head
            started = time.process_time()
            pairs = list(zip(front.fit[p], back.fit[q], strict=True))
            stitch = treatment.stitch(front.chain.layout(p), back.chain.layout(q), pairs)
            tail, top = deepcopy(own), deepcopy(head)
            pairs = [(stitch(x), y) for x, y in pairs]
            treatment.blocks(tail, own, pairs)
            last_node = zip(pairs, back.fit[len(back.chain)], strict=True)
            treatment.head(top, head, [(tail(x.clone()), y) for (x, _), y in last_node])
            seconds = time.process_time() - started
            logits = [top(tail(stitch(x))) for x in front.validation[p]]
            change = _change(nn.ModuleList([tail, top]), nn.ModuleList([own, head]))
            accuracy = _accuracy(logits, back.labels)
            found.append({"into": last, "accuracy": accuracy, "seconds": seconds, "change": change})
    return found


def nothing(part: nn.Module, source: nn.Module, pairs: Pairs) -> None:
    """Leaves a part as it is."""


def statistics(part: nn.Module, source: nn.Module, pairs: Pairs) -> None:
    """BatchNorm statistics."""
    batchnorm.batchnorm(part, (x.clone() for x, _ in pairs))


def layers(part: nn.Module, source: nn.Module, pairs: Pairs) -> None:
    """All layers, in closed form."""
    refit(part, source, pairs, PULL)


def firm(part: nn.Module, source: nn.Module, pairs: Pairs) -> None:
    """All layers, pulled ten times as much."""
    refit(part, source, pairs, 10 * PULL)


def firmest(part: nn.Module, source: nn.Module, pairs: Pairs) -> None:
    """All layers, pulled a hundred times as much."""
    refit(part, source, pairs, 100 * PULL)


def norms(part: nn.Module, source: nn.Module, pairs: Pairs) -> None:
    """Each channel of each normalisation regressed on the source's own, slope and intercept, in forward order."""
    _channelwise(part, source, pairs, lambda layer: isinstance(layer, nn.LayerNorm | nn.GroupNorm | _BatchNorm), False)


def norms_moments(part: nn.Module, source: nn.Module, pairs: Pairs) -> None:
    """Each channel of each normalisation scaled and moved to the source's own mean and variance, in forward order."""
    _channelwise(part, source, pairs, lambda layer: isinstance(layer, nn.LayerNorm | nn.GroupNorm | _BatchNorm), True)


def outputs(part: nn.Module, source: nn.Module, pairs: Pairs) -> None:
    """Each channel of each linear layer and convolution regressed on the source's own, in forward order."""
    statistics(part, source, pairs)
    _channelwise(part, source, pairs, lambda layer: isinstance(layer, nn.Linear | nn.Conv2d), False)


def least_squares(source: Layout, target: Layout, pairs: Pairs, patch: int = 1, ridge: float = RIDGE) -> Stitch:
    """Pooled, without matching of variances."""
    return _equations(source, target, pairs, patch).fitted(ridge)


def patched(source: Layout, target: Layout, pairs: Pairs) -> Stitch:
    """With 2x2 patches where the grid allows."""
    return least_squares(source, target, pairs, 2 if takes_patches(source, target) else 1)


def smoother(source: Layout, target: Layout, pairs: Pairs) -> Stitch:
    """A hundred times the ridge."""
    return least_squares(source, target, pairs, ridge=100 * RIDGE)


def matched(source: Layout, target: Layout, pairs: Pairs) -> Stitch:
    """Least squares, then every channel at the target's mean and variance."""
    equations = _equations(source, target, pairs)
    return equations.matched(equations.fitted(RIDGE))


def drawn(source: Layout, target: Layout, pairs: Pairs) -> Stitch:
    """A linear map, not fitted."""
    return random(source, target, 1, SEED)


def coloured(source: Layout, target: Layout, pairs: Pairs) -> Stitch:
    """Least squares, then the linear map that gives the prediction the target's covariance and moves it least (optimal
    transport between Gaussians): S^-1/2 (S^1/2 T S^1/2)^1/2 S^-1/2, S and T the two covariances.
    """
    stitch = least_squares(source, target, pairs)
    fitted, wanted = _both(stitch, pairs)
    spread = _covariance(fitted)
    root, inverse = _power(spread, 0.5), _power(spread, -0.5)
    after = inverse @ _power(root @ _covariance(wanted) @ root, 0.5) @ inverse
    return _composed(stitch, after, (fitted.mean(0), wanted.mean(0)))


def rotated(source: Layout, target: Layout, pairs: Pairs) -> Stitch:
    """Whitened, turned by the orthogonal Procrustes solution, given the target's covariance."""
    stitch = least_squares(source, target, pairs)
    fitted, wanted = _both(stitch, pairs)
    whiten, colour = _power(_covariance(fitted), -0.5), _power(_covariance(wanted), 0.5)
    means = fitted.mean(0), wanted.mean(0)
    both = (fitted - means[0]).T @ (wanted - means[1]) / len(fitted)
    u, _, v = torch.linalg.svd(whiten @ both @ _power(_covariance(wanted), -0.5))
    return _composed(stitch, whiten @ u @ v @ colour, means)


TREATMENTS = {
    "random": Treatment(drawn, statistics, nothing),
    "none": Treatment(least_squares, nothing, nothing),
    "statistics": Treatment(least_squares, statistics, nothing),
    "statistics + variance": Treatment(matched, statistics, nothing),
    "head": Treatment(least_squares, statistics, layers),
    "layers": Treatment(least_squares, layers, layers),
    "layers + own head": Treatment(least_squares, layers, nothing),
    "head + random stitch": Treatment(drawn, statistics, layers),
    "head + pull x 10": Treatment(least_squares, statistics, firm),
    "head + pull x 100": Treatment(least_squares, statistics, firmest),
    "layers + pull x 100": Treatment(least_squares, firmest, firmest),
    "layers + pull x 10": Treatment(least_squares, firm, firm),
    "head + patch": Treatment(patched, statistics, layers),
    "head + variance": Treatment(matched, statistics, layers),
    "head + ridge x 100": Treatment(smoother, statistics, layers),
    "statistics + covariance": Treatment(coloured, statistics, nothing),
    "head + covariance": Treatment(coloured, statistics, layers),
    "layers + covariance": Treatment(coloured, layers, layers),
    "statistics + Procrustes": Treatment(rotated, statistics, nothing),
    "norms regressed": Treatment(least_squares, norms, nothing),
    "norms' moments": Treatment(least_squares, norms_moments, nothing),
    "outputs regressed": Treatment(least_squares, outputs, outputs),
}


def _equations(source: Layout, target: Layout, pairs: Pairs, patch: int = 1) -> StitchEquations:
    equations = StitchEquations(source, target, patch)
    for x, y in pairs:
        equations.add(x, y)
    return equations


def _channelwise(
    part: nn.Module,
    source: nn.Module,
    pairs: Sequence[tuple[torch.Tensor, torch.Tensor]],
    wanted: Callable[[nn.Module], bool],
    moments: bool,
) -> None:
    for name in order(part, pairs[0][0], wanted):
        layer: Any = part.get_submodule(name)
        own, act = source.get_submodule(name), getattr(layer, "act", None)
        if act is not None:  # timm's normalisation with an activation in it
            layer.act, own.act = nn.Identity(), nn.Identity()
        both = [(around(part, layer, x)[1], around(source, own, y)[1]) for x, y in pairs]
        if act is not None:
            layer.act = own.act = act
        first = isinstance(layer, nn.Conv2d | _BatchNorm) or type(layer).__name__ == "LayerNorm2d"
        flat = [[t.movedim(1, -1) if first else t for t in ts] for ts in zip(*both, strict=True)]
        x, y = (torch.cat([t.flatten(0, -2) for t in ts]).double() for ts in flat)
        a, b = x - x.mean(0), y - y.mean(0)
        variance = a.square().mean(0).clamp_min(1e-12)
        slope = (b.square().mean(0) / variance).sqrt() if moments else (a * b).mean(0) / variance
        layer.weight.mul_(slope.reshape(-1, *[1] * (layer.weight.ndim - 1)))
        if layer.bias is not None:
            layer.bias.copy_(layer.bias * slope + y.mean(0) - slope * x.mean(0))


def _both(stitch: Stitch, pairs: Pairs) -> tuple[torch.Tensor, torch.Tensor]:
    """What the stitch gives and what it should give, at all positions."""
    maps = [[rows(stitch.target.to_map(t)) for t in both] for both in ((stitch(x), y) for x, y in pairs)]
    fitted, wanted = (torch.cat(column).double() for column in zip(*maps, strict=True))
    return fitted, wanted


def _covariance(x: torch.Tensor) -> torch.Tensor:
    found = torch.cov(x.T)
    return found + 1e-3 * found.diagonal().mean() * torch.eye(len(found), dtype=found.dtype)


def _power(symmetric: torch.Tensor, power: float) -> torch.Tensor:
    values, vectors = torch.linalg.eigh(symmetric)
    return (vectors * values.clamp_min(1e-12) ** power) @ vectors.T


def _composed(stitch: Stitch, after: torch.Tensor, means: tuple[torch.Tensor, torch.Tensor]) -> Stitch:
    """`stitch` with the map `after` behind it, which moves the first mean to the second."""
    channels = stitch.channels
    assert channels.bias is not None
    channels.weight.copy_((after.T @ channels.weight.flatten(1).double()).reshape_as(channels.weight))
    channels.bias.copy_((channels.bias.double() - means[0]) @ after + means[1])
    return stitch


def _change(part: nn.Module, source: nn.Module) -> float:
    given = dict(source.named_parameters())
    names = [f"{name}.weight" for name, layer in part.named_modules() if isinstance(layer, nn.Linear | nn.Conv2d)]
    found = dict(part.named_parameters())
    return mean(float((found[name] - given[name]).norm() / given[name].norm()) for name in names)


def _accuracy(logits: Batches, labels: torch.Tensor) -> float:
    return 100 * float((torch.cat(logits).argmax(1) == labels).float().mean())


if __name__ == "__main__":
    main()
