"""Stage `page`: this study's part of docs/results.md, and its pictures, from its tables alone."""

import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from lib.base import artifacts
from lib.params.base import read
from lib.params.run import Run
from lib.report.figures import INK, MUTED, PALETTE, draw
from stages import prepare, run
from studies.cifar10.params import Study
from studies.sheet import Page, Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLES = {  # of the tables, by stage
    "hybrids": "Every hybrid of the ResNet partition",
    "predictors": "Which predictor ranks hybrids",
    "budgets": "Under budgets",
    "ablation": "Ablation",
    "families": "Convolutional networks and a transformer",
    "transfer": "Transfer",
}


def main(tables: Path, plots: Path, docs: Path) -> None:
    """Writes the tables that there are into results.md in `docs`, where others stay, and their pictures to `plots`."""
    prepare(read("run", Run))
    results = {name: Result.load(file) for name in TITLES if (file := tables / f"{name}.json").exists()}
    for name, svg in _pictures(results).items():
        artifacts.write_text(plots / f"{name}.svg", svg)
    titles = {name: (title, name) for name, title in TITLES.items()}
    pictures = {name: f"{name}.svg" for name in ("predictors", "budgets")}
    opening = _opening(read("study", Study), read("run", Run).seed)
    Page(docs, "cifar10", tables, plots).write(opening, titles, pictures)


def _opening(study: Study, seed: int) -> str:
    frozen, full = study.frozen_images, study.full_images
    scratch, tuned = 3 * full, frozen + 2 * full
    return f"""## Reassembly

Made by `./run dvc repro` in `studies/cifar10`; seed {seed} for every random choice. Machine:
{os.cpu_count()} CPU cores ({platform.system()}, {platform.machine()}), no GPU, {torch.get_num_threads()} thread a
network, torch {torch.__version__.split("+")[0]}.

Data: CIFAR-10 as 32 x 32 JPEG, 45,000 train, 5,000 validation and 10,000 test images; the encoding is lossy, which
costs the published ResNets about 10 points. Test images serve for final figures alone. ResNet partition: resnet20,
resnet32 and resnet56 (trained by Y. Idelbayev), K = 3, eps = 0.2, size = nodes; the hybrids are the 24 paths that take
blocks from two networks at least. Stitches are fitted to 512 unlabelled train images, heads are the last source's own.
Refitted head, refitted layers: `assembly.treatment: head, layers_and_head` with `pull: 0.1`, on the same images; an
unmodified network has nothing to refit. Our pick: of the 5 best by R² of their stitches within the budget, the best on
500 labelled train images.

Tuning begins with refitted layers and head, the best of table 1's treatments ([stitches](stitching.md) has a better
one: validation images like all of these hybrids best with their heads kept, by 1.4 points in the mean): one epoch of
stitches and head on {frozen:,} train images (frozen), then two epochs of everything on {full:,} (full), whole networks
alike. A network from scratch gets three epochs on those {full:,}, {scratch:,} images where the others see {tuned:,}.
"""


def _pictures(results: Mapping[str, Result]) -> dict[str, str]:
    found = {}
    if "budgets" in results:
        found["budgets"] = draw(lambda figure: _budgets(figure, results["budgets"].figures), 8.6, 5.6)
    if "predictors" in results:
        found["predictors"] = draw(lambda figure: _predictors(figure, results["predictors"].figures), 8.6, 3.2)
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
        tau = figures["recalibrated"][name]["value"]
        axes.set_title("" if tau is None else f"tau = {tau:.2f}", fontsize=10, loc="left", color=INK)
        axes.spines[["top", "right"]].set_visible(False)
        if i == 0:
            axes.set_ylabel("test accuracy, %")
    figure.subplots_adjust(wspace=0.28)


if __name__ == "__main__":
    run(main)
