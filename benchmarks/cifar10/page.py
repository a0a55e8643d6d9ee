"""Its part of docs/results.md, with pictures, from the stored results alone."""

import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.cifar10.tuning import IMAGES
from benchmarks.sheet import Result, write_part
from lib.base import artifacts
from lib.report.figures import INK, MUTED, PALETTE, draw

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLES = {
    1: "Every hybrid of the ResNet partition",
    2: "Which predictor ranks hybrids",
    3: "Under budgets",
    4: "Ablation",
    5: "Convolutional networks and a transformer",
    6: "Transfer",
}


def write(docs: Path, results: Mapping[int, Result], seed: int) -> None:
    """Writes into results.md, and the pictures beside it."""
    pictures = _pictures(results)
    for name, svg in pictures.items():
        artifacts.write_text(docs / name, svg)
    parts = [_opening(seed, tuple(pictures))]
    for number, result in sorted(results.items()):
        parts.append(f"### {number}. {TITLES[number]}\n\n`python -m benchmarks.cifar10 --tables {number}`\n")
        parts += [sheet.markdown() for sheet in result.sheets]
    write_part(docs, "cifar10", "\n".join(parts))


def _opening(seed: int, pictures: tuple[str, ...]) -> str:
    shown = "\n".join(f"![{name}]({name})\n" for name in pictures)
    frozen, full = IMAGES["frozen"], IMAGES["full"]
    scratch, tuned = 3 * full, frozen + 2 * full
    return f"""## Reassembly

Written by `python -m benchmarks.cifar10` from its own results; seed {seed} for every random choice. Machine:
{os.cpu_count()} CPU cores ({platform.system()}, {platform.machine()}), no GPU, {torch.get_num_threads()} thread a
network, torch {torch.__version__.split("+")[0]}.

Data: CIFAR-10 as 32 x 32 JPEG, 45,000 train, 5,000 validation and 10,000 test images; the encoding is lossy, which
costs the published ResNets about 10 points. Test images serve for final figures alone. ResNet partition: resnet20,
resnet32 and resnet56 (trained by Y. Idelbayev), K = 3, eps = 0.2, size = nodes; the hybrids are the 24 paths that take
blocks from two networks at least. Stitches are fitted to 512 unlabelled train images, heads are the last source's own.
Refitted head, refitted layers: `assembly.stitch.recalibrate: head, layers` with `pull: 0.1`, on the same images; an
unmodified network has nothing to refit. Our pick: of the 5 best by R² of their stitches within the budget, the best on
500 labelled train images.

Tuning begins with refitted layers, the best treatment on validation images ([stitches](stitching.md)): one epoch of
stitches and head on {frozen:,} train images (frozen), then two epochs of everything on {full:,} (full), whole networks
alike. A network from scratch gets three epochs on those {full:,}, {scratch:,} images where the others see {tuned:,}.

{shown}"""


def _pictures(results: Mapping[int, Result]) -> dict[str, str]:
    found = {}
    if 3 in results:
        found["cifar10_budgets.svg"] = draw(lambda figure: _budgets(figure, results[3].figures), 8.6, 5.6)
    if 2 in results:
        found["cifar10_predictors.svg"] = draw(lambda figure: _predictors(figure, results[2].figures), 8.6, 3.2)
    return found


def _budgets(figure: "Figure", protocols: Mapping[str, Any]) -> None:
    """Accuracy against parameters: all hybrids, and what is picked at each budget, a panel a protocol."""
    columns = 2 if len(protocols) > 1 else 1
    grid = figure.subplots(-(-len(protocols) // columns), columns, sharex=True, sharey=True, squeeze=False)
    for axes, (protocol, found) in zip(grid.flat, protocols.items(), strict=False):
        axes.grid(True)
        x = [hybrid["params"] / 1e6 for hybrid in found["hybrids"]]
        y = [hybrid["accuracy"] for hybrid in found["hybrids"]]
        axes.plot(x, y, "o", color=MUTED, markersize=4, markerfacecolor="none", label="hybrids")
        x = [row["limit"] / 1e6 for row in found["rows"]]
        for column, (colour, line, label) in _STEPS.items():
            y = [row[column] for row in found["rows"]]
            axes.step(x, y, where="post", color=colour, linestyle=line, linewidth=1.4, label=label)
        axes.set_title(protocol, fontsize=10, loc="left")
        axes.spines[["top", "right"]].set_visible(False)
    for axes in grid.flat[len(protocols) :]:
        axes.remove()
    for axes in grid[:, 0]:
        axes.set_ylabel("test accuracy, %")
    for axes in grid[-1]:
        axes.set_xlabel("parameters at most, M")
    handles, labels = grid.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", bbox_to_anchor=(0.5, 0.95), ncols=len(labels), fontsize=8.5)
    figure.subplots_adjust(wspace=0.07, hspace=0.22)


_STEPS = {
    "zoo_accuracy": (PALETTE[1], "-", "best zoo network"),
    "random_search": (PALETTE[4], "--", "random search"),
    "pick_accuracy": (PALETTE[0], "-", "our pick"),
}


def _predictors(figure: "Figure", figures: Mapping[str, Any]) -> None:
    """What three predictors say of each hybrid against its test accuracy after least squares and recalibration."""
    points = figures["recalibrated"]["points"]
    titles = {"stitch_r2": "sum of log R² of stitches", "few_shot": "% on 500 train images", "naswot": "NASWOT"}
    for i, (name, title) in enumerate(titles.items()):
        axes = figure.add_subplot(1, 3, i + 1)
        axes.grid(True)
        axes.plot(points[name], points["test"], "o", color=PALETTE[i], markersize=4.5)
        axes.set_xlabel(title)
        axes.set_title(f"tau = {figures['recalibrated'][name]['value']:.2f}", fontsize=10, loc="left", color=INK)
        axes.spines[["top", "right"]].set_visible(False)
        if i == 0:
            axes.set_ylabel("test accuracy, %")
    figure.subplots_adjust(wspace=0.28)
