"""The task of table 6: the images of the classes that its networks do not know."""

from dataclasses import replace

import numpy as np

from lib.images.data import DataSet, of_classes
from lib.images.sources import Images

HALVES = "halves"  # the group whose networks know other classes than the task's
TARGET = range(5, 10)  # classes of the task


def task(group: str, data: DataSet) -> DataSet:
    """The images of a group's task: for networks that know half of the classes those of the other half, else all."""
    return target(data) if group == HALVES else data


def target(data: DataSet) -> DataSet:
    """The images of the target classes, renumbered, with the same splits; as many probe images as before, drawn from
    its train images.
    """
    images = data.images
    kept = of_classes(images, np.arange(len(images)), TARGET)
    place = np.full(len(images), -1)
    place[kept] = np.arange(len(kept))
    own = Images(
        labels=images.labels[kept] - TARGET.start,
        classes=tuple(images.classes[c] for c in TARGET),
        held_out=images.held_out[kept],
        image=lambda i: images.image(int(kept[i])),
        checksum=f"{images.checksum} classes {list(TARGET)}",
    )
    splits = {name: place[of_classes(images, getattr(data, name), TARGET)] for name in ("train", "validation", "test")}
    probe = np.random.default_rng(0).permutation(splits["train"])[: len(data.probe)]
    return replace(data, images=own, **splits, probe=probe)
