"""Images and labels: where they come from, how they are divided, how they reach a network."""

import hashlib
import os
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from lib import artifacts
from lib.errors import BrickyardError
from lib.params.dataset import Dataset

if TYPE_CHECKING:
    from PIL.Image import Image

Transform = Callable[["Image"], torch.Tensor]
Batch = tuple[torch.Tensor, torch.Tensor]
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


@dataclass(frozen=True)
class DataSet:
    """Images with their splits, as the `dataset` stage left them: int64 index arrays, ascending but for probe."""

    images: Images
    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    probe: np.ndarray


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


def split(images: Images, source: Dataset, seed: int) -> DataSet:
    """Stratified train / validation / test split and the probe set: `probe_images` train images, in random order."""
    from sklearn.model_selection import train_test_split

    everything = np.arange(len(images))
    if images.held_out.any():
        rest, test = everything[~images.held_out], everything[images.held_out]
        validation_share = source.validation
    else:
        rest, test = train_test_split(
            everything, test_size=source.test, stratify=images.labels, random_state=seed, shuffle=True
        )
        validation_share = source.validation / (1 - source.test)
    train, validation = train_test_split(
        rest, test_size=validation_share, stratify=images.labels[rest], random_state=seed, shuffle=True
    )
    if source.probe_images > len(train):
        raise BrickyardError(
            f"dataset.probe_images = {source.probe_images}: there are {len(train)} train images; ask for fewer"
        )
    probe = np.random.default_rng(seed).permutation(np.sort(train))[: source.probe_images]
    return DataSet(images, np.sort(train), np.sort(validation), np.sort(test), probe)


def save(folder: Path, data: DataSet, source: Dataset) -> None:
    """Writes splits.safetensors (int64 indices) and card.json (source, class names, counts, checksum)."""
    splits = {name: torch.from_numpy(getattr(data, name)) for name in ("train", "validation", "test", "probe")}
    artifacts.write_tensors(folder / "splits.safetensors", splits)
    labels = data.images.labels
    counts = {
        name: dict(
            zip(
                data.images.classes,
                np.bincount(labels[index], minlength=len(data.images.classes)).tolist(),
                strict=True,
            )
        )
        for name, index in splits.items()
    }
    card = {
        "source": source.model_dump(),
        "classes": list(data.images.classes),
        "images": len(data.images),
        "checksum": data.images.checksum,
        "counts": counts,
    }
    artifacts.write_json(folder / "card.json", card)


def load(folder: Path) -> DataSet:
    """Opens what `save` described; raises BrickyardError when the images are no longer the ones that were split."""
    card = artifacts.read_json(folder / "card.json")
    images = open_images(Dataset.model_validate(card["source"]))
    if images.checksum != card["checksum"]:
        raise BrickyardError(
            f"{card['source']['path']}: the images have changed since they were split; dvc repro dataset"
        )
    splits = {name: tensor.numpy() for name, tensor in artifacts.read_tensors(folder / "splits.safetensors").items()}
    return DataSet(images=images, **splits)


def parse_classes(text: str, names: Sequence[str]) -> list[int]:
    """Class indices in ascending order from `all`, or numbers, ranges and names separated by commas: `0-4,ship`."""
    if text == "all":
        return list(range(len(names)))
    chosen: set[int] = set()
    for part in (part.strip() for part in text.split(",")):
        first, dash, last = part.partition("-")
        if part in names:
            chosen.add(names.index(part))
        elif first.isdigit() and (last.isdigit() if dash else True):
            chosen.update(range(int(first), int(last or first) + 1))
        else:
            raise BrickyardError(
                f"classes {text!r}: {part!r} is neither a number, a range nor one of {', '.join(names)}"
            )
    if not chosen or max(chosen) >= len(names):
        raise BrickyardError(f"classes {text!r}: there are {len(names)} classes, 0-{len(names) - 1}")
    return sorted(chosen)


def of_classes(images: Images, index: np.ndarray, classes: Sequence[int]) -> np.ndarray:
    """Those of `index` whose label is one of `classes`, in the same order."""
    return index[np.isin(images.labels[index], list(classes))]


def stratified_sample(images: Images, index: np.ndarray, count: int, seed: int) -> np.ndarray:
    """A stratified random sample of about `count` of `index`, ascending: equally many of each class."""
    shuffled = np.random.default_rng(seed).permutation(index)
    labels = images.labels[shuffled]
    present = np.unique(labels)
    per_class = -(-count // len(present))
    taken = np.concatenate([shuffled[labels == label][:per_class] for label in present])
    return np.sort(taken)


class Loader:
    """Some images, preprocessed, in batches of (float32 [b, 3, h, w], int64 [b]); iterating follows their order.

    They stay in memory after the first pass if they fit into half of BRICKYARD_MEMORY (GiB, 2 by default), else they
    are decoded anew in each pass by BRICKYARD_WORKERS processes. `classes`, where given, renumbers the labels: label
    classes[i] becomes i.
    """

    def __init__(
        self,
        images: Images,
        index: np.ndarray,
        transform: Transform,
        batch_size: int,
        classes: Sequence[int] | None = None,
    ):
        self.images, self.index, self.transform, self.batch_size = images, index, transform, batch_size
        labels = images.labels[index]
        if classes is not None:
            order = np.argsort(classes)
            labels = order[np.searchsorted(np.asarray(classes), labels, sorter=order)]
        self.labels = labels
        self._kept: torch.Tensor | None = None

    def __len__(self) -> int:
        return -(-len(self.index) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        return self._batches(np.arange(len(self.index)))

    def shuffled(self, seed: int, epoch: int) -> Iterator[Batch]:
        """The same images in an order that depends on seed and epoch alone."""
        return self._batches(np.random.default_rng([seed, epoch]).permutation(len(self.index)))

    def all(self) -> Batch:
        """Everything as one batch, for few images."""
        x, y = zip(*self, strict=True)
        return torch.cat(x), torch.cat(y)

    def _batches(self, order: np.ndarray) -> Iterator[Batch]:
        if self._kept is None and self._fits():
            self._kept = torch.cat([x for x, _ in self._decoded(np.arange(len(self.index)))])
        if self._kept is None:
            yield from self._decoded(order)
            return
        labels = torch.from_numpy(self.labels)
        for rows in torch.from_numpy(order).split(self.batch_size):
            yield self._kept[rows], labels[rows]

    def _decoded(self, order: np.ndarray) -> Iterator[Batch]:
        pairs: Any = _Pairs(self, order)
        workers = int(os.environ.get("BRICKYARD_WORKERS", "0"))
        yield from DataLoader(pairs, batch_size=self.batch_size, num_workers=workers)

    def _fits(self) -> bool:
        first = self.transform(self.images.image(int(self.index[0])))
        limit = float(os.environ.get("BRICKYARD_MEMORY", "2")) * 2**30 / 2
        return first.numel() * first.element_size() * len(self.index) <= limit


class _Pairs:
    """Map-style data set of (preprocessed image, label)."""

    def __init__(self, loader: Loader, order: np.ndarray):
        self.loader, self.order = loader, order

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        loader, at = self.loader, int(self.order[i])
        return loader.transform(loader.images.image(int(loader.index[at]))), int(loader.labels[at])


def _digits(source: Dataset) -> Images:
    from PIL import Image as pil
    from sklearn.datasets import load_digits

    digits: Any = load_digits()
    pixels = np.round(digits.images * (255 / 16)).astype(np.uint8)
    size = (source.image_size, source.image_size)

    def image(i: int) -> "Image":
        return pil.fromarray(pixels[i]).convert("RGB").resize(size, pil.Resampling.BICUBIC)

    names = tuple(str(name) for name in digits.target_names)
    labels = digits.target.astype(np.int64)
    checksum = hashlib.sha256(pixels.tobytes() + labels.tobytes()).hexdigest()
    return Images(labels, names, np.zeros(len(labels), bool), image, checksum)


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
