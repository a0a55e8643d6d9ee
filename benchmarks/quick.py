"""What the quick forms of the studies share: a folder with the study's params.yaml, in which its stages run."""

import argparse
from collections.abc import Iterator, Sequence
from contextlib import chdir, contextmanager
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from lib.base.artifacts import write_text
from lib.base.code import ROOT
from lib.base.errors import BrickyardError
from lib.images import data
from lib.params.base import read
from lib.params.dataset import Dataset
from lib.params.run import Run
from stages import SCRATCH, dataset, prepare, zoo
from studies.inputs import checkpoint

DATASET, ZOO = Path("artifacts/dataset"), Path("artifacts/zoo")


def parser(study: str, doc: str) -> argparse.ArgumentParser:
    """Of the command line: quick, data, checkpoints and work; doc: the program's docstring."""
    found = argparse.ArgumentParser(prog=f"python -m benchmarks.{study}", description=doc.splitlines()[0])
    found.add_argument("--quick", action="store_true", required=True)
    found.add_argument("--data", type=Path, default=Path("../shared/data/cifar10"))
    found.add_argument("--checkpoints", type=Path, default=Path("../shared/checkpoints"))
    found.add_argument("--work", type=Path, default=Path(".scratch", study), help="where everything is made anew")
    return found


def params(study: str, images: Path) -> dict[str, Any]:
    """The params of a study, on these images."""
    found = YAML(typ="safe", pure=True).load(ROOT / "studies" / study / "params.yaml")
    found["dataset"]["path"] = str(images.resolve())
    return found


def published(given: argparse.Namespace, names: Sequence[str]) -> dict[str, Any]:
    """The params of studies/cifar10 on the images of the command line, with these networks' checkpoints.

    Raises BrickyardError where either is missing.
    """
    if not given.data.exists():
        raise BrickyardError(f"{given.data} not found: name the place with --data")
    found = params("cifar10", given.data)
    for name in names:
        entry = found["zoo"]["models"][name]
        entry["weights"] = str(checkpoint(given.checkpoints, Path(entry["weights"]).name).resolve())
    return found


@contextmanager
def place(folder: Path, document: dict[str, Any]) -> Iterator[None]:
    """Makes `folder`, with `document` as its params.yaml, the current one."""
    text = StringIO()
    YAML(pure=True).dump(document, text)
    write_text(folder / "params.yaml", text.getvalue())
    with chdir(folder):
        yield


def dataset_and_zoo(names: Sequence[str], test: int | None = None) -> Path:
    """The data set, and these networks, by the stages of that name, in the current folder; test: so many test images,
    all by default. Returns the folder of the images.
    """
    prepare(read("run", Run))
    dataset.main(DATASET, Path("metrics/dataset.json"))
    images = DATASET if test is None else fewer("test", test)
    zoo_of(names, images)
    return images


def fewer(part: str, count: int) -> Path:
    """The folder of the data set with a sample of one of its parts, train or test, alone; in the current folder."""
    images, folder = data.load(DATASET, SCRATCH), Path(f"{DATASET}-{count}")
    own = getattr(images, part)
    few = data.stratified_sample(images.images, own, min(count, len(own)), read("run", Run).seed)
    data.save(folder, replace(images, **{part: few}), read("dataset", Dataset))
    return folder


def zoo_of(names: Sequence[str], images: Path = DATASET) -> None:
    """These networks, by stage `zoo`; images: folder of those on which they are measured, and trained if they have to
    be.
    """
    for name in names:
        zoo.main(images, name, ZOO / name, Path(f"metrics/{name}.json"), Path(f"metrics/{name}.curve.json"))
