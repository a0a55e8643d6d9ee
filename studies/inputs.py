"""Stage `inputs` of a study: copies of the images and checkpoints that its params name; DVC sees their contents."""

import re
import shutil
from pathlib import Path

from lib.base.errors import BrickyardError
from lib.params.base import read
from lib.params.section import Section, Text
from lib.params.zoo import Zoo
from stages import run

IMAGES = (
    "study.images is not set: in params.yaml, write the folder that has the images of CIFAR-10 "
    "(https://www.cs.toronto.edu/~kriz/cifar.html) as train.tar.gz and test.tar.gz, or in folders train and test, with "
    "one folder a class"
)
CHECKPOINTS = (
    "study.checkpoints is not set: in params.yaml, write the folder that has {wanted}; those of ResNets are at "
    "https://github.com/akamaster/pytorch_resnet_cifar10"
)


class Inputs(Section, extra="ignore"):
    """`study`, as far as every study has it: the folders that its user has."""

    images: Text | None
    checkpoints: Text | None


def main(images: Path, checkpoints: Path) -> None:
    """Copies all files below study.images to `images`, and to `checkpoints`, under the names that zoo.models have for
    them, those that begin likewise below study.checkpoints.
    """
    params = read("study", Inputs)
    wanted = sorted({Path(entry.weights).name for entry in read("zoo", Zoo).models.values() if "/" in entry.weights})
    begin = ", ".join(f"{Path(name).stem}*" for name in wanted)
    source = named(params.images, IMAGES, "study.images")
    checkpoints.mkdir(parents=True, exist_ok=True)
    if wanted:
        shelf = named(params.checkpoints, CHECKPOINTS.format(wanted=begin), "study.checkpoints")
        for name, file in [(name, checkpoint(shelf, name)) for name in wanted]:
            _copy(file, checkpoints / name)
    for file in sorted(path for path in source.rglob("*") if path.is_file()):
        _copy(file, images / file.relative_to(source))


def named(folder: str | None, unset: str, key: str) -> Path:
    """The folder at `key`. Raises BrickyardError where there is none; unset: what to say where it is null."""
    if folder is None:
        raise BrickyardError(unset)
    if not Path(folder).is_dir():
        raise BrickyardError(f"{key} = {folder!r}: there is no such folder; name the one that has them in params.yaml")
    return Path(folder)


def checkpoint(folder: Path, name: str) -> Path:
    """The file that begins as `name` does: resnet20-12fca82f.th for resnet20.th. Raises BrickyardError without one."""
    stem = Path(name).stem
    files = [file for file in sorted(folder.glob("*")) if re.match(rf"{re.escape(stem)}\b", file.name)]
    if not files:
        raise BrickyardError(f"study.checkpoints = {str(folder)!r}: has no file {stem}*; put it there")
    return files[0]


def _copy(file: Path, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, to)


if __name__ == "__main__":
    run(main)
