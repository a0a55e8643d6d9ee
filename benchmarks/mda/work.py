"""The work folder of this benchmark: its params.yaml, and links to images and checkpoints."""

from contextlib import chdir
from pathlib import Path

from benchmarks import workplace

PARAMS = Path(__file__).with_name("params.yaml")
CHECKPOINTS = ("vgg13_w375", "vgg13_w25", "resnet20", "resnet32", "resnet56")


def enter(folder: Path, images: Path, checkpoints: Path) -> chdir:
    links = {"data/cifar10": images}
    for name in CHECKPOINTS:
        for path in sorted(checkpoints.glob(f"{name}*")):
            links[f"checkpoints/{name}{path.suffix}"] = path
    return workplace.enter(folder, PARAMS.read_text(encoding="utf-8"), links)
