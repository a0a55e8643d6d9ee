"""Where images come from: built in, a data set of torchvision, or a folder or archive of the user's."""

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np

from ..base.errors import BrickyardError
from ..params.dataset import Dataset
from . import archives, fingerprint, folders, picture
from .picture import shown
from .published import open_published

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image


@dataclass(frozen=True)
class Images:
    """All images of a source, decoded one at a time.

    labels: int64 [n].
    classes: names by label.
    held_out: bool [n], images that the source itself sets aside for testing (all False where it sets none aside).
    image: index -> RGB picture.
    checksum: over what the images are made from (bytes of files, else pixels before they are scaled), the size that
        they are scaled to, their order, labels and numbers in each part; of a folder, also over names of classes and
        files.
    validation: as held_out, for validation.
    notes: lines on what the source left out.
    device: on which batches of them are given, `cpu` or one of torch.
    decoded: bytes of images that are in memory, by whoever keeps them there.
    """

    labels: np.ndarray
    classes: tuple[str, ...]
    held_out: np.ndarray
    image: Callable[[int], "Image"]
    checksum: str
    validation: np.ndarray | None = None
    notes: tuple[str, ...] = ()
    device: "torch.device | str" = "cpu"
    decoded: WeakKeyDictionary[Any, int] = field(default_factory=WeakKeyDictionary, compare=False, repr=False)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def own_parts(self) -> dict[str, np.ndarray]:
        """The masks [n] of `validation` and `test` images, as far as the source sets any aside."""
        masks = {"validation": self.validation, "test": self.held_out}
        return {part: mask for part, mask in masks.items() if mask is not None and mask.any()}


def open_images(source: Dataset, scratch: Path) -> Images:
    """Opens the images that the `dataset` section names.

    scratch: a folder for archives, which are unpacked there, downloads, and what is known of files' contents; no result
    depends on it.
    """
    opener = {"digits": _digits, "torchvision": _torchvision, "folder": _folder}[source.source]
    images = opener(source, scratch)
    digest = hashlib.sha256(f"{images.checksum} {source.image_size}".encode())
    images = replace(images, checksum=digest.hexdigest())
    if len(images.classes) < 2:
        only = ", ".join(images.classes)
        raise BrickyardError(f"{where(source)}: has one class only, {only!r}; at least two are needed")
    _check_counts(images, source)
    return images


def where(source: Dataset) -> str:
    """What to call the source in a message."""
    return {"digits": "dataset.source = 'digits'", "torchvision": f"dataset.name = {source.name!r}"}.get(
        source.source, f"dataset.path = {source.path!r}"
    )


def _check_counts(images: Images, source: Dataset) -> None:
    """Raises BrickyardError where a class has too few images for one in every part."""
    own = images.own_parts
    needed = {part: 1 for part in ("train", "validation", "test") if part not in own}
    free = ~np.logical_or.reduce([np.zeros(len(images), bool), *own.values()])
    counts = np.bincount(images.labels[free], minlength=len(images.classes))
    few = np.flatnonzero(counts < len(needed))
    if len(few):
        more = f" (and {len(few) - 1} more classes have too few)" if len(few) > 1 else ""
        within = f" to divide beside those for {' and '.join(own)}" if own else ""
        raise BrickyardError(
            f"{where(source)}: class {images.classes[few[0]]!r} has {counts[few[0]]} images{within}; "
            f"each needs at least {len(needed)}, one each for {', '.join(needed)}{more}"
        )
    for part, mask in own.items():
        absent = np.flatnonzero(np.bincount(images.labels[mask], minlength=len(images.classes)) == 0)
        if len(absent):
            raise BrickyardError(f"{where(source)}: class {images.classes[absent[0]]!r} has no {part} images")


def _digits(source: Dataset, _: Path) -> Images:
    from PIL import Image as pil

    table = _read_digits()
    pixels = np.round(table[:, :64].reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    size = (source.image_size, source.image_size)

    def image(i: int) -> "Image":
        return pil.fromarray(pixels[i]).convert("RGB").resize(size, pil.Resampling.BICUBIC)

    labels = table[:, 64].astype(np.int64)
    names = tuple(str(digit) for digit in range(10))
    checksum = hashlib.sha256(pixels.tobytes() + labels.tobytes()).hexdigest()
    return Images(labels, names, np.zeros(len(labels), bool), image, checksum)


def _read_digits() -> np.ndarray:
    """float64 [1797, 65]: what `sklearn.datasets.load_digits` reads, 64 pixels in [0, 16] and the digit of each image.

    Without importing scikit-learn, which takes each stage longer than most stages' own work on the digits.
    """
    package = find_spec("sklearn")
    if package is None or package.origin is None:
        raise BrickyardError("dataset.source = 'digits': needs scikit-learn, which is not installed")
    return np.loadtxt(Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz", delimiter=",")


def _torchvision(source: Dataset, scratch: Path) -> Images:
    found = open_published(source.name or "", source.options, scratch / "torchvision")
    bounds = np.cumsum([0, *(len(own) for own in found.labels.values())])
    opened = list(found.parts.values())

    def image(i: int) -> "Image":
        which = int(np.searchsorted(bounds, i, side="right")) - 1
        return _square(_picture(opened[which], i - int(bounds[which])), source.image_size)

    joined = np.concatenate(list(found.labels.values()))
    of = np.concatenate([np.full(len(own), part) for part, own in found.labels.items()])
    digest = hashlib.sha256(f"{source.name} {bounds.tolist()}".encode() + joined.tobytes())
    for part, own in found.parts.items():
        digest.update(_content(own, _cache(scratch, scratch / "torchvision", f"{source.name}.{part}")))
    return Images(joined, found.classes, of == "test", image, digest.hexdigest(), of == "validation", found.notes)


def _picture(part: Any, i: int) -> "Image":
    image = part[i][0]
    if not hasattr(image, "getexif"):
        raise BrickyardError(
            f"dataset.name = {type(part).__name__!r}: it holds no pictures but {type(image).__name__}s"
        )
    return picture.rgb(image)


def _content(part: Any, cache: Path) -> bytes:
    """What stands for all images of torchvision's data set: its array, its files' contents, or the decoded pixels."""
    array: Any = getattr(part, "data", None)
    if hasattr(array, "shape") and len(array) == len(part):
        return np.ascontiguousarray(array).tobytes()
    for value in vars(part).values():
        if isinstance(value, list | tuple) and len(value) == len(part):
            files: list[Any] = [item[0] if isinstance(item, list | tuple) and item else item for item in value]
            if all(isinstance(file, str | Path) and Path(file).is_file() for file in files):
                return "".join(fingerprint.of_files([Path(file) for file in files], cache, picture.opened)).encode()
    digest = hashlib.sha256()
    for i in range(len(part)):
        pixels = _picture(part, i)
        digest.update(f"{pixels.size}".encode() + pixels.tobytes())
    return digest.digest()


def _folder(source: Dataset, scratch: Path) -> Images:
    root = Path(source.path)
    if not root.exists():
        raise BrickyardError(f"dataset.path = {source.path!r}: there is no such folder or archive{_in_a_copy()}")
    try:
        return _read_parts(_unpacked(root, scratch), source, scratch)
    except BrickyardError as error:
        raise BrickyardError(f"{error}{_in_a_copy()}") from None


def _read_parts(root: Path, source: Dataset, scratch: Path) -> Images:
    found = folders.parts(root)
    read = {part: folders.read(_unpacked(path, scratch)) for part, path in found.items()}
    classes = tuple(read["train"].files)
    for part, path in found.items():
        for here, names, there in ((path, classes, read[part].files), (found["train"], read[part].files, classes)):
            for name in names:
                if name not in there:
                    raise BrickyardError(f"{shown(here)}: has no images of class {name!r}; each part needs all classes")
    samples = [(part, name, file) for part, folder in read.items() for name, file in folders.order(folder)]
    files = [file for _, _, file in samples]
    sums = fingerprint.of_files(files, _cache(scratch, root, "images"), picture.opened)
    digest = hashlib.sha256()
    for (part, name, file), content in zip(samples, sums, strict=True):
        inside = os.fsencode(file.relative_to(read[part].root)).hex()
        digest.update(f"{json.dumps([part, name, inside, content])}\n".encode())

    def image(i: int) -> "Image":
        return _square(picture.opened(files[i]), source.image_size)

    number = {name: label for label, name in enumerate(classes)}
    labels = np.asarray([number[name] for _, name, _ in samples], np.int64)
    of = {part: np.asarray([part == name for name, _, _ in samples], bool) for part in ("validation", "test")}
    return Images(labels, classes, of["test"], image, digest.hexdigest(), of["validation"], _notes(root, found, read))


def _notes(root: Path, found: dict[str, Path], read: dict[str, folders.Folder]) -> tuple[str, ...]:
    """What was left out, one line each."""
    notes = []
    others = folders.beside(root, list(found.values())) if root not in found.values() else []
    if others:
        notes.append(f"{shown(root)}: beside {', '.join(found)} there are {', '.join(map(shown, others))}; not read")
    for part, folder in read.items():
        if folder.other:
            count, example = folders.kinds(folder.other), shown(folder.other[0])
            notes.append(f"{shown(found[part])}: left out what is no image ({count}), such as {example}")
    return tuple(notes)


def _in_a_copy() -> str:
    """What to do where DVC runs an experiment in a copy of the files that git or DVC tracks, after a message."""
    if {".dvc", "tmp", "exps"} <= set(Path.cwd().parts):
        return (
            "; this is a temporary copy of what git and DVC track (--temp, --queue): `dvc add` the images, give "
            "dataset.path as an absolute path, or run the experiment without --temp"
        )
    return ""


def _cache(scratch: Path, path: Path, kind: str) -> Path:
    """Where what is known of the contents of `path` is kept."""
    return scratch / "fingerprints" / f"{hashlib.sha256(os.fsencode(path.absolute())).hexdigest()[:16]}.{kind}.json"


def _unpacked(path: Path, scratch: Path) -> Path:
    """A folder with the images of `path`; an archive is unpacked to scratch once, keyed by name and content. What holds
    nothing but a folder with folders is that folder.
    """
    if path.is_dir():
        return path
    (content,) = fingerprint.of_files([path], _cache(scratch, path, "archive"))
    target = scratch / "unpacked" / f"{path.name}.{content[:16]}"
    archives.unpack(path, target)
    return folders.inner(target)


def _square(image: "Image", size: int) -> "Image":
    """Scales the shorter side to `size` and cuts out the centre."""
    from PIL import ImageOps

    return image if image.size == (size, size) else ImageOps.fit(image, (size, size))
