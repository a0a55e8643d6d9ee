"""The images of a task: under conditions that are drawn for each of them, and divided in a second way."""

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from lib.images.data import DataSet, stratified_sample
from lib.images.sources import Images
from studies.frontier.scenario import Condition, Scenario

if TYPE_CHECKING:
    from PIL.Image import Image

SEEN, APART = "validation", "apart"  # ways of dividing the images
BLUR, QUALITY = 1.2, 8  # standard deviation in pixels; of JPEG


def task(data: DataSet, scenario: Scenario, seed: int) -> DataSet:
    """The images under the conditions of a zoo's task."""
    return replace(data, images=under(data.images, scenario.conditions, seed))


def lesson(data: DataSet, scenario: Scenario, name: str, seed: int) -> DataSet:
    """The same for a network that is trained, with its own conditions and a sample of the train images."""
    conditions, count = scenario.learns.get(name, scenario.conditions), scenario.train_images
    train = data.train if count is None else stratified_sample(data.images, data.train, count, seed)
    return replace(data, images=under(data.images, conditions, seed), train=train)


def apart(data: DataSet, count: int, seed: int) -> DataSet:
    """The same with so many test images for validation, and the others for testing."""
    few = stratified_sample(data.images, data.test, count, seed)
    return replace(data, validation=few, test=np.setdiff1d(data.test, few))


def views(images: DataSet, count: int | None, seed: int) -> dict[str, DataSet]:
    """The ways of dividing the images of a task; count: of a second one the test images that validate."""
    return {SEEN: images} if count is None else {SEEN: images, APART: apart(images, count, seed)}


def under(images: Images, conditions: Sequence[Condition], seed: int) -> Images:
    """The same images, each under one of some conditions, equally often, drawn by seed."""
    if list(conditions) == ["sharp"]:
        return images
    drawn = np.random.default_rng(seed).integers(len(conditions), size=len(images))
    changes = [CHANGES[name] for name in conditions]
    return replace(
        images,
        image=lambda i: changes[drawn[i]](images.image(i)),
        checksum=f"{images.checksum} {' '.join(conditions)} {seed}",
    )


def _blurred(image: "Image") -> "Image":
    from PIL import ImageFilter

    return image.filter(ImageFilter.GaussianBlur(BLUR))


def _compressed(image: "Image") -> "Image":
    from PIL import Image as pil

    kept = io.BytesIO()
    image.save(kept, "JPEG", quality=QUALITY)
    return pil.open(kept).convert("RGB")


CHANGES: Mapping[Condition, Callable[["Image"], "Image"]] = {
    "sharp": lambda image: image,
    "blurred": _blurred,
    "grey": lambda image: image.convert("L").convert("RGB"),
    "compressed": _compressed,
}
