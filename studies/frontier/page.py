"""Stage `page`: docs/frontier.md and its picture, from the tables of all zoos that have been measured."""

import os
import platform
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from lib.base import artifacts
from lib.params.base import read
from lib.params.run import Run
from lib.report.figures import PALETTE, draw
from stages import prepare, run
from studies.frontier.params import Study
from studies.frontier.questions import KINDS
from studies.frontier.tables import WAYS, WORDS
from studies.frontier.task import SEEN
from studies.sheet import Result, Sheet

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PICTURE = "frontier.svg"
LINES = {"untrained": "-", "frozen": "--"}  # of treatments in the picture
SHOWN = {"ours": (PALETTE[0], "ours"), "rival": (PALETTE[1], "rivals")}


def main(tables: Path, plots: Path, docs: Path) -> None:
    """Writes frontier.md to `docs`, the picture to `plots`; tables: of the zoos, a file each."""
    prepare(read("run", Run))
    study = read("study", Study)
    files = {zoo: tables / f"{zoo}.json" for zoo in study.zoos}
    results = {zoo: Result.load(file) for zoo, file in files.items() if file.exists()}
    height = 2.7 * len(results)
    picture = draw(lambda figure: _fronts(figure, {zoo: own.figures for zoo, own in results.items()}), 8.6, height)
    artifacts.write_text(plots / PICTURE, picture)
    shown = os.path.relpath(plots.resolve() / PICTURE, docs.resolve())
    parts = [_opening(study, read("run", Run).seed, results), _summary(results).markdown(), f"![{PICTURE}]({shown})\n"]
    for zoo, result in results.items():
        parts += [f"## Zoo {zoo}\n", *(one.markdown() for one in result.sheets)]
    artifacts.write_text(docs / "frontier.md", "\n".join(parts))


def _summary(results: Mapping[str, Result]) -> Sheet:
    columns = (
        *("zoo", "treatment", "budgets", "won", "after Holm", "tied", "mean margin", "worst regret"),
        *("ours - oracle", "ahead of the oracle"),
    )
    rows = tuple(
        (
            zoo,
            f"{treatment}{WAYS[way]}{beside}",
            *(str(told[name]) for name in ("budgets", "won", "won_after_holm", "tied")),
            *(f"{told[f'{name}_points']:.2f}" for name in ("mean_margin", "worst_regret", "oracle_margin")),
            str(told["ahead_of_oracle"]),
        )
        for zoo, result in results.items()
        for way, own in result.figures.items()
        for treatment, plain in own.items()
        for beside, told in (("", plain), (", rivals stacked, too", plain["stronger"]))
    )
    notes = (
        "Margin: ours minus the rival that validation images pick, in points on test images, mean over the budgets; "
        "regret: the greatest by which the rival is ahead; oracle: the rival that is best on test images "
        "(after tuning, of those that were stacked before it, only what validation picks at some budget). "
        "Rivals stacked, too: whole networks, ensembles and cut networks whose heads were fitted to the same labels as "
        "ours stand among the rivals."
    )
    return Sheet("Budgets won", columns, rows, notes)


def _fronts(figure: "Figure", found: Mapping[str, Any]) -> None:
    """Accuracy within a budget, a row a zoo, a column a kind of cost."""
    grid = figure.subplots(len(found), len(KINDS), sharey="row", squeeze=False)
    for row, (zoo, own) in zip(grid, found.items(), strict=True):
        for axes, kind in zip(row, KINDS, strict=True):
            axes.grid(True)
            for treatment, line in LINES.items():
                points = [one for one in own[SEEN].get(treatment, {"points": ()})["points"] if one["kind"] == kind]
                for side, (colour, label) in SHOWN.items():
                    x, y = [one["limit"] / 1e6 for one in points], [one[side] for one in points]
                    label = f"{label}, {WORDS[treatment]}"
                    axes.step(x, y, where="post", color=colour, linestyle=line, linewidth=1.3, label=label)
            limits = [one["limit"] / 1e6 for one in own[SEEN]["untrained"]["points"] if one["kind"] == kind]
            ticks = [f"{float(f'{tick:.2g}'):g}" for tick in np.geomspace(min(limits), max(limits), 5)]
            axes.set_xscale("log")
            axes.set_xticks([float(tick) for tick in ticks], ticks)
            axes.minorticks_off()
            axes.set_title(zoo, fontsize=10, loc="left")
            axes.spines[["top", "right"]].set_visible(False)
        row[0].set_ylabel("test accuracy, %")
    for axes, label in zip(grid[-1], ("parameters at most, M", "MACs at most, M"), strict=True):
        axes.set_xlabel(label)
    handles, labels = grid.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", bbox_to_anchor=(0.5, 0.93), ncols=2, fontsize=8.5)
    figure.subplots_adjust(wspace=0.06, hspace=0.42)


def _opening(study: Study, seed: int, measured: Collection[str]) -> str:
    widths = " or ".join(f"{width:.0%}" for width in study.widths)
    shares = ", ".join(f"{share:.0%}" for share in study.shares)
    return f"""# Ahead of the shelf

Made by the stages of `studies/frontier`; seed {seed} for every random choice. Machine: {platform.system()},
{platform.machine()}, no GPU, {torch.get_num_threads()} thread, torch {torch.__version__.split("+")[0]}.

Within each of {study.budgets} budgets of parameters and as many of MACs, log-spaced from the smallest network of a
zoo to the sum of all, what is chosen of its chains and trees (whole networks, their ensembles and cut networks among
them) stands beside the rival that the same 5,000 validation images pick: the best whole network, the best ensemble of
whole networks, the best one that MDA has cut (to {shares} of its parameters), a random assembly, the paper's search;
where everything learns, also the same architecture from scratch, and the others taught by the zoo's largest network.
All get the same labels and the same tuning. Figures are of 10,000 test images, which choose nothing.

What we choose may be stacked: on one half of the validation images, linear maps of all tails' logits are fitted to the
labels, and become part of the heads; the other half picks. Whole networks, their ensembles and cut networks can have
that, too, and so each count is made twice: beside the rivals as they are, and with such rivals among them. (What the
stage `assembly` saves has maps that both halves have fitted; here the other half has to choose again.) Ours alone are
stitches and blocks with {widths} of the channels inside: last blocks behind any front, and a network's own, all of
them narrow.

{_told(study, measured)}
Frozen: stitches and heads learn for an epoch on {study.frozen_images:,} train images. Full: then everything, for two
epochs on {study.full_images:,}. Networks that several budgets pick are tuned once. What is tuned is chosen again: the
best on all validation images of what is not stacked, unless (for us, and where rivals may be stacked) a stacked one is
ahead of it on the half that has fitted no maps. Where maps are fitted (again) after tuning and are better for images
that have not fitted them, that is one choice more, for us and for rivals that may be stacked; of images that have
fitted the maps is told what maps of others of them say.
"""


def _told(study: Study, measured: Collection[str]) -> str:
    """A line on each zoo that has been measured, and which have not."""
    images = {zoo: f"{one.train_images or 45_000:,}" for zoo, one in study.zoos.items()}
    lines = {
        "published": f"""ResNet-20, -32 and -56 (trained by Y. Idelbayev). They have been trained on what are validation
  images here: so all is counted a second time with {study.apart.get("published", 0):,} test images in their place, and
  the other test images for figures. Half of them, 1,250, pick there, among more networks than these can tell apart:
  what is narrow throughout is picked too often, and tuned then.""",
        "specialists": f"""five ResNet-8, of which two have seen half of the classes each, the others all classes, but
  blurred, grey, or heavily compressed; {images["specialists"]} train images, of two those of their classes. The task
  asks for all classes, and its images are as they are, blurred, grey or compressed, equally often, on validation and
  test images alike.""",
        "alike": f"""the negative control, five ResNet-8 that have all seen {images["alike"]} images of the task's own
  mix, from other seeds.""",
        "families": f"""a transformer, ConvNeXt, ResNet-18's and RegNet's blocks and a plain network, thin, trained on
  {images["families"]} images.""",
    }
    told = [f"- **{zoo}**: {line}" for zoo, line in lines.items() if zoo in measured]
    missing = [zoo for zoo in study.zoos if zoo not in measured]
    return "\n".join([*told, *([f"\nNot measured yet: {', '.join(missing)}."] if missing else []), ""])


if __name__ == "__main__":
    run(main)
