"""Its part of docs/results.md, with a picture, from the stored results alone but for the routes."""

import os
import platform
from collections.abc import Mapping
from pathlib import Path

import torch

from benchmarks.mda import routes
from benchmarks.mda.lab import Lab
from benchmarks.sheet import Result, write_part
from lib.base import artifacts

TITLES = {
    1: "Components",
    2: "Assemblies",
    3: "Other scores",
    4: "Forms",
    5: "Choice within a budget",
    6: "Chosen on validation images",
    7: "Decision routes",
}
PICTURE = "mda_routes.svg"


def write(docs: Path, results: Mapping[int, Result], lab: Lab) -> None:
    """Writes the tables that there are into results.md, where others stay, and the picture beside it with table 7."""
    if 7 in results:
        artifacts.write_text(docs / PICTURE, routes.picture(lab))
    write_part(docs, "mda", _opening(lab))
    for number, result in results.items():
        parts = [f"### {number}. {TITLES[number]}\n\n`python -m benchmarks.mda --tables {number}`\n"]
        parts += [sheet.markdown() for sheet in result.sheets]
        if number == 7:
            parts.append(f"![{PICTURE}]({PICTURE})\n")
        write_part(docs, f"mda-{number}", "\n".join(parts))


def _opening(lab: Lab) -> str:
    counts = [f"{len(index):,}" for index in (lab.images.train, lab.images.validation, lab.images.test)]
    return f"""## Components and assemblies

Written by `python -m benchmarks.mda` from its own results; seed {lab.seed} for every random choice. Machine:
{platform.system()}, {platform.machine()}, {os.cpu_count()} CPU cores, no GPU, {torch.get_num_threads()} thread,
torch {torch.__version__.split("+")[0]}.

Data: CIFAR-10 as 32 x 32 JPEG, {counts[0]} train, {counts[1]} validation and {counts[2]} test images; the encoding is
lossy, which costs the published ResNets about 10 points. Test images serve for final figures alone. Networks: vgg_a and
vgg_b (VGG-13, widths .375 and .25), resnet20, resnet32 and resnet56 (trained by Y. Idelbayev), bottleneck (ResNet-50's
blocks, seven of them) and googlenet (five inception modules, width .1875), both trained for a few epochs; their
weights, and by some tenths of a point their figures, depend on the kind of CPU, and tables may come from different
ones. A component is the part of a network that the classes of its task need, cut out at the authors' thresholds, or at
a half or a third of that size; it is repaired in closed form on 500 unlabelled train images and their mirror images.
"""
