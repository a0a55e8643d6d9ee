"""The work folder of this benchmark: its params.yaml, links to images and checkpoints, and what replaces these."""

import re
from collections.abc import Sequence
from contextlib import chdir
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from benchmarks import workplace
from benchmarks.mda.tasks import QUICK
from lib.images import data
from lib.params.base import read
from lib.params.dataset import Dataset
from lib.params.run import Run

PARAMS = Path(__file__).with_name("params.yaml")
EPOCHS, DIGITS_EPOCHS = 2, 8  # of networks that have no checkpoint
FEW = 10_000  # train images for them in a quick run
QUICK_REPAIR = {"mirror": False, "images": 250, "classifier_images": 500}


def enter(folder: Path, images: Path, checkpoints: Path, quick: bool = False) -> tuple[chdir, list[str]]:
    """Makes the work folder ready; the context in which it is the current one, and what is missing and was replaced.

    Networks without a checkpoint are trained for two epochs; without images, everything happens on scikit-learn's
    digits, in 32 pixels; in either case in a folder of its own beside. quick: the other networks do not matter, and
    repairs see fewer images.
    """
    links, missing = dict[str, Path](), list[str]()
    found = YAML(typ="safe", pure=True).load(PARAMS)
    if quick:
        found["components"]["repair"] |= QUICK_REPAIR
    for name, entry in found["zoo"]["models"].items():
        if entry["weights"] == "train" or (quick and name not in QUICK):
            continue
        wanted = Path(entry["weights"])
        files = [
            path for path in sorted(checkpoints.glob(f"{wanted.stem}*")) if re.match(rf"{wanted.stem}\b", path.name)
        ]
        if files and images.exists():
            links[str(wanted)] = files[0]
        else:
            missing.append(name)
    if images.exists():
        links["data/cifar10"] = images
    document = replaced(found, missing, images.exists())
    said = [f"{name}: no checkpoint in {checkpoints}, trained for {EPOCHS} epochs" for name in missing]
    if not images.exists():
        said = [f"{images} not found: digits instead, all networks trained for {DIGITS_EPOCHS} epochs"]
    if said:
        folder = folder.with_name(f"{folder.name}-{'trained' if images.exists() else 'digits'}{'-quick' * quick}")
    return workplace.enter(folder, document, links), said


def training_images(few: bool) -> Path:
    """The data set on which networks are trained: the experiment's own, or with a sample of its train images."""
    if not few:
        return workplace.DATASET
    images, folder = workplace.split(), Path(f"{workplace.DATASET}-{FEW}")
    if len(images.train) <= FEW:
        return workplace.DATASET
    seed, source = read("run", Run).seed, read("dataset", Dataset)
    data.save(folder, replace(images, train=data.stratified_sample(images.images, images.train, FEW, seed)), source)
    return folder


def replaced(document: dict[str, Any], missing: Sequence[str], images: bool) -> str:
    """params.yaml with networks that are trained instead of the `missing` ones, and without `images` on digits."""
    models = document["zoo"]["models"]
    if not images:
        document["dataset"] |= {"source": "digits", "path": ""}
        document["zoo"]["training"] |= {"epochs": DIGITS_EPOCHS, "augmentation": {"crop_padding": 4, "flip": False}}
    for name in missing:
        models[name] |= {"weights": "train", "training": {"epochs": EPOCHS if images else DIGITS_EPOCHS}}
    text = StringIO()
    YAML(typ="safe", pure=True).dump(document, text)
    return text.getvalue()
