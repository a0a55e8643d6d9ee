"""docs/results.md and its pictures, from the stored results alone."""

import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.cifar10.tuning import IMAGES
from benchmarks.sheet import Result
from lib import artifacts
from lib.report.figures import INK, MUTED, PALETTE, draw

if TYPE_CHECKING:
    from matplotlib.axes import Axes
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
    """Writes results.md and the pictures into `docs`."""
    pictures = _pictures(results)
    for name, svg in pictures.items():
        artifacts.write_text(docs / name, svg)
    parts = [_opening(seed, tuple(pictures))]
    for number, result in sorted(results.items()):
        parts.append(f"## {number}. {TITLES[number]}\n\n`python -m benchmarks.cifar10 --tables {number}`\n")
        parts += [sheet.markdown() for sheet in result.sheets]
    artifacts.write_text(docs / "results.md", "\n".join(parts))


def _opening(seed: int, pictures: tuple[str, ...]) -> str:
    shown = "\n".join(f"![{name}]({name})\n" for name in pictures)
    frozen, full = IMAGES["frozen"], IMAGES["full"]
    return f"""# Results on CIFAR-10

Written by `python -m benchmarks.cifar10` from its own results; seed {seed} for every random choice. Machine:
{platform.system()}, {platform.machine()}, {os.cpu_count()} CPU cores, no GPU, {torch.get_num_threads()} thread a
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
alike. A network from scratch gets three epochs on those {full:,}, a few more images than the others.

{shown}"""


def _pictures(results: Mapping[int, Result]) -> dict[str, str]:
    found = {}
    if 1 in results and 3 in results:
        found["cifar10_budgets.svg"] = draw(lambda figure: _budgets(figure, results), 8.6, 3.6)
    if 2 in results:
        found["cifar10_predictors.svg"] = draw(lambda figure: _predictors(figure, results[2].figures), 8.6, 3.2)
    return found


def _budgets(figure: "Figure", results: Mapping[int, Result]) -> None:
    """Accuracy against parameters: sources, hybrids, and what is picked at each budget."""
    networks, by_protocol = results[1].figures["networks"], results[3].figures
    panels = [(name, setting) for name, setting in _PANELS.items() if name in by_protocol and setting in networks[0]]
    for i, (protocol, setting) in enumerate(panels):
        axes = figure.add_subplot(1, len(panels), i + 1)
        own = [
            network if network["hybrid"] else {**network, setting: _source(network, setting)} for network in networks
        ]
        _dots(axes, own, setting)
        rows = by_protocol[protocol]["rows"]
        x, y = [row["limit"] / 1e6 for row in rows], [row["pick_accuracy"] for row in rows]
        axes.step(x, y, where="post", color=PALETTE[0], linewidth=1.3, label="our pick")
        axes.step(
            x, [row["best_accuracy"] for row in rows], where="post", color=MUTED, linewidth=1, label="best hybrid"
        )
        y = [row["random_search"] for row in rows]
        axes.step(x, y, where="post", color=PALETTE[4], linewidth=1, linestyle="--", label="random search")
        axes.set_title(protocol, fontsize=10, loc="left")
        axes.set_xlabel("parameters, M")
        axes.set_ylabel("test accuracy, %")
        axes.legend(fontsize=7.5, loc="best")


_PANELS = {"without training": "recalibrated", "without training, layers refitted": "layers", "frozen": "frozen"}


def _source(network: Mapping[str, Any], setting: str) -> float:
    """Accuracy of an unmodified network, which nothing but tuning changes."""
    return network["recalibrated"] if network.get(setting) is None else network[setting]


def _dots(axes: "Axes", networks: list[dict[str, Any]], setting: str) -> None:
    axes.grid(True)
    for hybrid, marker, colour, label in ((True, "o", PALETTE[0], "hybrid"), (False, "s", PALETTE[1], "source")):
        own = [network for network in networks if network["hybrid"] == hybrid]
        x, y = [network["params"] / 1e6 for network in own], [network[setting] for network in own]
        axes.plot(x, y, marker, color=colour, markersize=5, markerfacecolor="none" if hybrid else colour, label=label)
    axes.spines[["top", "right"]].set_visible(False)


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
