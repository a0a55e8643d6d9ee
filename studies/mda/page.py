"""Stage `page`: this study's part of docs/results.md, from its tables alone."""

import os
import platform
from pathlib import Path

import torch

from lib.base import artifacts
from lib.params.base import read
from lib.params.run import Run
from stages import prepare, run
from studies.sheet import Page

TITLES = {  # of the tables, by stage
    "disassembly": "Components",
    "assemblies": "Assemblies",
    "controls": "Other scores",
    "forms": "Forms",
    "budgets": "Choice within a budget",
    "choices": "Chosen on validation images",
    "routes": "Decision routes",
}
PICTURE = "routes.svg"


def main(dataset: Path, tables: Path, plots: Path, docs: Path) -> None:
    """Writes those tables that there are into results.md in `docs`, where others stay, with the picture in `plots`."""
    prepare(read("run", Run))
    counts = artifacts.read_json(dataset / "card.json")["counts"]
    opening = _opening(*(sum(counts[split].values()) for split in ("train", "validation", "test")))
    titles = {name: (title, f"tables@{name}") for name, title in TITLES.items()}
    Page(docs, "mda", tables, plots).write(opening, titles, {"routes": PICTURE})


def _opening(train: int, validation: int, test: int) -> str:
    return f"""## Components and assemblies

Made by `./run dvc repro` in `studies/mda`; seed {read("run", Run).seed} for every random choice. Machine:
{platform.system()}, {platform.machine()}, {os.cpu_count()} CPU cores, no GPU, {torch.get_num_threads()} thread,
torch {torch.__version__.split("+")[0]}.

Data: CIFAR-10 as 32 x 32 JPEG, {train:,} train, {validation:,} validation and {test:,} test images; the encoding is
lossy, which costs the published ResNets about 10 points. Test images serve for final figures alone. Networks: vgg_a and
vgg_b (VGG-13, widths .375 and .25), resnet20, resnet32 and resnet56 (trained by Y. Idelbayev), bottleneck (ResNet-50's
blocks, seven of them) and googlenet (five inception modules, width .1875), both trained for a few epochs; their
weights, and by some tenths of a point their figures, depend on the kind of CPU, and tables may come from different
ones. A component is the part of a network that the classes of its task need, cut out at the authors' thresholds, or at
a half or a third of that size; it is repaired in closed form on 500 unlabelled train images and their mirror images.
"""


if __name__ == "__main__":
    run(main)
