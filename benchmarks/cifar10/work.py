"""The work folder of this benchmark: its params.yaml, and links to images and the three checkpoints."""

import re
from contextlib import chdir
from pathlib import Path

from benchmarks import workplace
from benchmarks.workplace import DATASET, ROOT, ZOO, network, split, trained

__all__ = ["DATASET", "PARAMS", "ROOT", "ZOO", "enter", "network", "split", "trained"]

PARAMS = Path(__file__).with_name("params.yaml")


def enter(folder: Path, images: Path, checkpoints: Path) -> chdir:
    """Makes the work folder ready and returns the context in which it is the current one.

    Raises BrickyardError when images or one of the three checkpoints are missing.
    """
    links = {"data/cifar10": images}
    for depth in (20, 32, 56):
        found = [
            path for path in sorted(checkpoints.glob(f"resnet{depth}*")) if re.match(rf"resnet{depth}\b", path.name)
        ]
        links[f"checkpoints/resnet{depth}.th"] = found[0] if found else checkpoints / f"resnet{depth}.th"
    return workplace.enter(folder, PARAMS.read_text(encoding="utf-8"), links)
