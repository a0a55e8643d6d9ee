"""Images and labels: where they come from, how they are divided, how they reach a network."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from lib import artifacts, environment
from lib.errors import BrickyardError
from lib.params.dataset import Dataset
from lib.sources import Images, open_images

if TYPE_CHECKING:
    from PIL.Image import Image

Transform = Callable[["Image"], torch.Tensor]
ImageChange = Callable[["Image", int], "Image"]  # of an image and its index
Batch = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class DataSet:
    """Images with their splits, as the `dataset` stage left them: int64 index arrays, ascending but for probe."""

    images: Images
    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    probe: np.ndarray


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


def parse_classes(text: str, names: Sequence[str], who: str) -> list[int]:
    """Class indices in ascending order from `all`, or numbers, ranges and names separated by commas: `0-4,ship`.

    Raises BrickyardError naming the key `who` where a part is none of these or there are no such classes.
    """
    if text == "all":
        return list(range(len(names)))
    chosen: set[int] = set()
    for part in (part.strip() for part in text.split(",")):
        first, dash, last = part.partition("-")
        if part in names:
            chosen.add(names.index(part))
        elif first.isdigit() and (last.isdigit() if dash else True):
            if dash and int(first) > int(last):
                raise BrickyardError(f"{who} = {text!r}: the range {part!r} is empty; write {last}-{first}")
            chosen.update(range(int(first), int(last or first) + 1))
        elif not text.strip():
            raise BrickyardError(f"{who} is empty; name at least one class, or all")
        else:
            raise BrickyardError(
                f"{who} = {text!r}: {part!r} is neither a number, a range nor one of {', '.join(names)}"
            )
    if max(chosen) >= len(names):
        raise BrickyardError(f"{who} = {text!r}: there are {len(names)} classes, 0-{len(names) - 1}")
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
        self.num_classes = len(images.classes if classes is None else classes)
        if classes is not None:
            order = np.argsort(classes)
            labels = order[np.searchsorted(np.asarray(classes), labels, sorter=order)]
        self.labels = labels
        self._kept: torch.Tensor | None = None

    def __len__(self) -> int:
        return -(-len(self.index) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        return self._batches(np.arange(len(self.index)))

    def shuffled(self, seed: int, epoch: int, change: ImageChange | None = None) -> Iterator[Batch]:
        """The same images in an order that depends on seed and epoch alone, each put through `change` first."""
        order = np.random.default_rng([seed, epoch]).permutation(len(self.index))
        return self._batches(order) if change is None else self._decoded(order, change)

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

    def _decoded(self, order: np.ndarray, change: ImageChange | None = None) -> Iterator[Batch]:
        pairs: Any = _Pairs(self, order, change)
        own = torch.Generator()  # else each pass would draw from the global one, which dropout depends on
        yield from DataLoader(pairs, batch_size=self.batch_size, num_workers=environment.workers(), generator=own)

    def _fits(self) -> bool:
        first = self.transform(self.images.image(int(self.index[0])))
        return first.numel() * first.element_size() * len(self.index) <= environment.memory() / 2


class _Pairs:
    """Map-style data set of (preprocessed image, label)."""

    def __init__(self, loader: Loader, order: np.ndarray, change: ImageChange | None):
        self.loader, self.order, self.change = loader, order, change

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        loader, at = self.loader, int(self.order[i])
        image = loader.images.image(int(loader.index[at]))
        if self.change is not None:
            image = self.change(image, int(loader.index[at]))
        return loader.transform(image), int(loader.labels[at])
