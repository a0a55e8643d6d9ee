"""How many images there are, before any stage has looked at them, and how long it takes to read one."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import ImageOps

from commands import SCRATCH
from lib.base import artifacts
from lib.base.errors import BrickyardError
from lib.images import folders, labels, picture, sources
from lib.params.dataset import Dataset

if TYPE_CHECKING:
    from PIL.Image import Image

CARD = Path("artifacts/dataset/card.json")
LOOKED_AT, SPENT = 32, 0.5  # images, seconds
PIXELS = 2e7  # a second are read and scaled, where that cannot be tried
PUBLISHED = {  # of torchvision: train and test images, classes
    "CIFAR10": (50_000, 10_000, 10),
    "CIFAR100": (50_000, 10_000, 100),
    "FashionMNIST": (60_000, 10_000, 10),
    "KMNIST": (60_000, 10_000, 10),
    "MNIST": (60_000, 10_000, 10),
    "QMNIST": (60_000, 60_000, 10),
    "STL10": (5_000, 8_000, 10),
    "SVHN": (73_257, 26_032, 10),
    "USPS": (7_291, 2_007, 10),
}


@dataclass(frozen=True)
class Images:
    """What is known of the images. counts: by part; classes: their names, in order; opened: the i-th image of some, as
    the source gives it, None where none is at hand.
    """

    counts: Mapping[str, int]
    classes: tuple[str, ...]
    opened: Callable[[int], "Image"] | None = None
    at_hand: int = 0

    def of(self, part: str, wanted: str) -> int:
        """How many of a part belong to some classes, written as in params.yaml; all classes are taken to have equally
        many.
        """
        return round(self.counts[part] * self.known(wanted) / max(1, len(self.classes)))

    def known(self, wanted: str) -> int:
        """How many classes these are."""
        try:
            return len(labels.parse_classes(wanted, self.classes, "classes"))
        except BrickyardError:  # own; what is wrong is said by `commands.check`
            return len(self.classes)


def count(source: Dataset, changed: bool) -> Images | None:
    """The images of section `dataset`; None where they are not known without downloading or unpacking them.

    changed: whether stage `dataset` will run, so that what it left is of other images.
    """
    found = {"digits": _digits, "folder": _folder, "torchvision": _published}[source.source](source)
    if changed and found is not None:
        return found
    try:
        card = artifacts.read_json(CARD)
        if not changed and card["source"] == source.model_dump():
            counts = {part: sum(own.values()) for part, own in card["counts"].items()}
            opened = (None, 0) if found is None else (found.opened, found.at_hand)
            return Images(counts, tuple(card["classes"]), *opened)
    except (BrickyardError, KeyError, AttributeError, TypeError):
        pass
    return found


def seconds(images: Images | None, source: Dataset, size: int) -> float:
    """How long it takes to read an image, to scale it as section `dataset` says, and then for a network of `size`
    pixels: measured on a few.
    """
    if images is None or images.opened is None or not images.at_hand:
        return (source.image_size**2 + size**2) / PIXELS
    from timm.data import create_transform

    change: Any = create_transform(input_size=size)
    own = source.image_size, source.image_size
    began, done = time.thread_time(), 0  # what else runs here just now does not count
    for i in range(0, images.at_hand, max(1, images.at_hand // LOOKED_AT)):
        image = images.opened(i)
        change(image if image.size == own else ImageOps.fit(image, own))
        done += 1
        if time.thread_time() - began > SPENT:
            break
    return (time.thread_time() - began) / done


def _digits(source: Dataset) -> Images:
    found = sources.open_images(source, SCRATCH)
    return Images(_divided(source, len(found)), found.classes, found.image, len(found))


def _folder(source: Dataset) -> Images | None:
    """Where it has been unpacked, or needs not be. Raises BrickyardError as stage `dataset` does."""
    root = Path(source.path)
    if not root.is_dir():
        return None
    parts = folders.parts(root)
    if not all(path.is_dir() for path in parts.values()):
        return None
    read = {part: folders.read(path) for part, path in parts.items()}
    files = [file for own in read["train"].files.values() for file in own]
    own = {part: sum(map(len, one.files.values())) for part, one in read.items()}
    train = own.pop("train")
    counts = _divided(source, train, own)
    return Images(counts, tuple(read["train"].files), lambda i: picture.opened(files[i]), len(files))


def _published(source: Dataset) -> Images | None:
    if source.name not in PUBLISHED or source.options:
        return None
    train, test, classes = PUBLISHED[source.name]
    return Images(_divided(source, train, {"test": test}), tuple(map(str, range(classes))))


def _divided(source: Dataset, free: int, own: Mapping[str, int] | None = None) -> dict[str, int]:
    """Images by part: so many that the source sets aside for none, and those of its `own` parts."""
    parts = dict(own or {})
    share = source.validation
    parts.setdefault("test", round(source.test * free))
    if "validation" not in parts:
        parts["validation"] = round(share * free)
        free -= parts["validation"]
    free -= 0 if own and "test" in own else parts["test"]
    return {"train": free, **parts, "probe": source.probe_images}
