"""Where images come from: built in, a data set of torchvision, or a folder or archive of the user's."""

import hashlib
import os
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lib.errors import BrickyardError
from lib.params.dataset import Dataset

if TYPE_CHECKING:
    from PIL.Image import Image

SCRATCH = Path(".scratch")


@dataclass(frozen=True)
class Images:
    """All images of a source, decoded one at a time.

    labels: int64 [n]; classes: names by label; held_out: bool [n], images that the source itself sets aside for
    testing (all False where it sets none aside); image: index -> RGB picture; checksum: over what is decoded.
    """

    labels: np.ndarray
    classes: tuple[str, ...]
    held_out: np.ndarray
    image: Callable[[int], "Image"]
    checksum: str

    def __len__(self) -> int:
        return len(self.labels)


def open_images(source: Dataset) -> Images:
    """Opens the images that the `dataset` section names; archives are unpacked to scratch first."""
    opener = {"digits": _digits, "torchvision": _torchvision, "folder": _folder}[source.source]
    images = opener(source)
    counts = np.bincount(images.labels, minlength=len(images.classes))
    if len(counts) < 2:
        raise BrickyardError(f"dataset.path = {source.path!r}: has one class only; at least two are needed")
    if counts.min() < 3:
        raise BrickyardError(
            f"dataset: class {images.classes[int(counts.argmin())]!r} has {counts.min()} images; each needs at least 3"
        )
    return images


def _digits(source: Dataset) -> Images:
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


def _torchvision(source: Dataset) -> Images:
    import inspect

    from torchvision import datasets

    kind = getattr(datasets, source.name or "", None)
    if not inspect.isclass(kind):
        raise BrickyardError(f"dataset.name = {source.name!r}: no data set of torchvision.datasets has this name")
    arguments = inspect.signature(kind).parameters
    if "train" in arguments:
        choices: list[dict[str, Any]] = [{"train": True}, {"train": False}]
    elif "split" in arguments:
        choices = [{"split": "train"}, {"split": "test"}]
    else:
        choices = [{}]
    if "download" in arguments:
        choices = [{**choice, "download": True} for choice in choices]
    opener: Any = kind
    try:
        parts: list[Any] = [opener(SCRATCH / "torchvision", **choice) for choice in choices]
    except (OSError, RuntimeError, TypeError, ValueError) as error:
        raise BrickyardError(f"dataset.name = {source.name!r}: torchvision cannot open it: {error}") from None
    labels = [np.asarray(_labels(part), np.int64) for part in parts]
    bounds = np.cumsum([0, *(len(part) for part in labels)])

    def image(i: int) -> "Image":
        which = int(np.searchsorted(bounds, i, side="right")) - 1
        return _square(parts[which][i - int(bounds[which])][0], source.image_size)

    names = getattr(parts[0], "classes", None) or [str(c) for c in range(int(max(part.max() for part in labels)) + 1)]
    held_out = np.concatenate([np.full(len(part), which == 1) for which, part in enumerate(labels)])
    joined = np.concatenate(labels)
    checksum = hashlib.sha256(f"{source.name} {bounds.tolist()}".encode() + joined.tobytes()).hexdigest()
    return Images(joined, tuple(str(name) for name in names), held_out, image, checksum)


def _labels(part: Any) -> Any:
    targets = getattr(part, "targets", getattr(part, "labels", None))
    return [part[i][1] for i in range(len(part))] if targets is None else targets


def _folder(source: Dataset) -> Images:
    from PIL import Image as pil

    found = _find_parts(Path(source.path))
    readers = [_read_folder(_unpacked(path)) for path in found.values()]
    classes = readers[0][1]
    for (_, names), path in zip(readers, found.values(), strict=True):
        if names != classes:
            raise BrickyardError(f"{path}: its class folders are not those of {next(iter(found.values()))}")
    files = [file for samples, _ in readers for file, _ in samples]
    labels = np.asarray([label for samples, _ in readers for _, label in samples], np.int64)
    held_out = np.concatenate([np.full(len(s), part == "test") for (s, _), part in zip(readers, found, strict=True)])
    digest = hashlib.sha256(labels.tobytes())
    for file in files:
        digest.update(f"{file.parent.name}/{file.name} {file.stat().st_size}\n".encode())

    def image(i: int) -> "Image":
        try:
            with pil.open(files[i]) as opened:
                return _square(opened, source.image_size)
        except OSError as error:
            raise BrickyardError(f"{files[i]} is not a readable image: {error}") from None

    return Images(labels, tuple(classes), held_out, image, digest.hexdigest())


def _find_parts(root: Path) -> dict[str, Path]:
    """`train` and `test` folders or archives below `root`, or `root` itself as the only part."""
    if not root.exists():
        raise BrickyardError(f"dataset.path = {str(root)!r}: there is no such folder or archive")
    parts: dict[str, Path] = {}
    for part in ("train", "test") if root.is_dir() else ():
        for suffix in ("", ".tar", ".tar.gz", ".tgz"):
            if (root / f"{part}{suffix}").exists():
                parts.setdefault(part, root / f"{part}{suffix}")
    if "test" in parts and "train" not in parts:
        raise BrickyardError(f"dataset.path = {str(root)!r}: has test images but no folder or archive 'train'")
    return parts or {"train": root}


def _unpacked(path: Path) -> Path:
    """A folder with the images of `path`; an archive is unpacked to scratch once, keyed by its content."""
    if path.is_dir():
        return path
    with path.open("rb") as file:
        key = hashlib.file_digest(file, "sha256").hexdigest()[:16]
    target = SCRATCH / "unpacked" / key
    if not target.is_dir():
        partial = target.with_name(f".{key}.{os.getpid()}")
        try:
            with tarfile.open(path) as archive:
                archive.extractall(partial, filter="data")
        except (tarfile.TarError, OSError) as error:
            raise BrickyardError(f"{path} cannot be unpacked: {error}") from None
        partial.replace(target)
    children = [child for child in target.iterdir() if not child.name.startswith(".")]
    inner = children[0] if len(children) == 1 and children[0].is_dir() else None
    return inner if inner and any(child.is_dir() for child in inner.iterdir()) else target


def _read_folder(root: Path) -> tuple[list[tuple[Path, int]], list[str]]:
    """(file, label) pairs and class names of an image folder, one sub-folder a class, in natural order."""
    from timm.data.readers.reader_image_folder import ReaderImageFolder

    try:
        reader = ReaderImageFolder(str(root))
    except RuntimeError:
        raise BrickyardError(f"{root}: no images found; expected one sub-folder of images a class") from None
    return [(Path(file), label) for file, label in reader.samples], list(reader.class_to_idx)


def _square(image: "Image", size: int) -> "Image":
    """Scales the shorter side to `size` and cuts out the centre."""
    from PIL import ImageOps

    image = image.convert("RGB")
    return image if image.size == (size, size) else ImageOps.fit(image, (size, size))
