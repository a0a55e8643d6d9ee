"""Images and labels: where they come from, how they are divided, how they reach a network."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch.utils.data import DataLoader

from ..base import artifacts, environment, halving
from ..base.errors import BrickyardError
from ..params.dataset import Dataset
from .labels import parse_classes as parse_classes
from .sources import Images, open_images, where

if TYPE_CHECKING:
    from PIL.Image import Image

Transform = Callable[["Image"], torch.Tensor]
ImageChange = Callable[["Image", int], "Image"]  # of an image and its index
Share = Callable[[int], Int64[np.ndarray, " some"]]  # of a batch of so many images: the rows that are wanted
Batch = tuple[Float[torch.Tensor, "_ ..."], Int64[torch.Tensor, " _"]]  # images or what was made of them, labels


@dataclass(frozen=True)
class DataSet:
    """Images with their splits, as the `dataset` stage left them: int64 index arrays, ascending but for probe."""

    images: Images
    train: Int64[np.ndarray, " train"]
    validation: Int64[np.ndarray, " validation"]
    test: Int64[np.ndarray, " test"]
    probe: Int64[np.ndarray, " probe"]

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, by label."""
        return self.images.classes

    @property
    def labels(self) -> Int64[np.ndarray, " n"]:
        """int64 [n], of all images."""
        return self.images.labels


def split(images: Images, source: Dataset, seed: int) -> DataSet:
    """Stratified train / validation / test split and the probe set: `probe_images` train images, in random order.

    What the source sets aside is kept; the fractions are of what it does not set aside for testing.
    """
    own = images.own_parts
    rest = np.flatnonzero(~np.logical_or.reduce([np.zeros(len(images), bool), *own.values()]))
    parts = {part: np.flatnonzero(mask) for part, mask in own.items()}
    if "test" not in parts:
        rest, parts["test"] = divide(rest, images.labels, source.test, seed, 1 + ("validation" not in parts))
    if "validation" not in parts:
        share = source.validation if "test" in own else source.validation / (1 - source.test)
        rest, parts["validation"] = divide(rest, images.labels, share, seed, 1)
    train, validation, test = (np.sort(part) for part in (rest, parts["validation"], parts["test"]))
    if source.probe_images > len(train):
        raise BrickyardError(
            f"dataset.probe_images = {source.probe_images}: there are {len(train)} train images; ask for fewer"
        )
    probe = np.random.default_rng(seed).permutation(train)[: source.probe_images]
    return DataSet(images, train, validation, test, probe)


def divide(
    index: Int64[np.ndarray, " n"], labels: Int64[np.ndarray, " images"], share: float, seed: int, keep: int
) -> tuple[Int64[np.ndarray, " rest"], Int64[np.ndarray, " taken"]]:
    """(what stays, what is taken) of `index`: `share` of each class, drawn at random, at least one image, and at least
    `keep` of each stay; a class needs keep + 1 images.
    """
    from sklearn.model_selection import train_test_split

    def fewest(part: np.ndarray) -> int:
        return int(np.bincount(labels[part], minlength=int(labels.max()) + 1).min())

    try:
        both: list[Any] = train_test_split(
            index, test_size=share, stratify=labels[index], random_state=seed, shuffle=True
        )
        if fewest(both[0]) >= keep and fewest(both[1]) >= 1:
            return both[0], both[1]
    except ValueError:  # fewer images than classes in one of the parts
        pass
    shuffled = np.random.default_rng(seed).permutation(index)
    chosen = np.zeros(len(shuffled), bool)
    for label in np.unique(labels[index]):
        places = np.flatnonzero(labels[shuffled] == label)
        chosen[places[: min(max(round(share * len(places)), 1), len(places) - keep)]] = True
    return shuffled[~chosen], shuffled[chosen]


def save(folder: Path, data: DataSet, source: Dataset) -> None:
    """Writes splits.safetensors (int64 indices) and card.json (source, class names, counts, checksum)."""
    splits = {name: torch.from_numpy(getattr(data, name)) for name in ("train", "validation", "test", "probe")}
    artifacts.write_tensors(folder / "splits.safetensors", splits)
    labels = data.labels
    counts = {
        name: dict(
            zip(
                data.classes,
                np.bincount(labels[index], minlength=len(data.classes)).tolist(),
                strict=True,
            )
        )
        for name, index in splits.items()
    }
    card = {
        "source": source.model_dump(),
        "classes": list(data.classes),
        "images": len(data.images),
        "checksum": data.images.checksum,
        "counts": counts,
    }
    artifacts.write_json(folder / "card.json", card)


def load(folder: Path, scratch: Path, device: torch.device | None = None) -> DataSet:
    """Opens what `save` described; scratch: as in `sources.open_images`; device: on which images come, else the CPU.

    Raises BrickyardError when the images are no longer the ones that were split.
    """
    card = artifacts.read_json(folder / "card.json")
    source = Dataset.model_validate(card["source"])
    images = open_images(source, scratch)
    if images.checksum != card["checksum"]:
        raise BrickyardError(f"{where(source)}: the images have changed since they were split; dvc repro dataset")
    splits = {name: tensor.numpy() for name, tensor in artifacts.read_tensors(folder / "splits.safetensors").items()}
    return DataSet(images=images if device is None else replace(images, device=device), **splits)


def of_classes(images: Images, index: Int64[np.ndarray, " n"], classes: Sequence[int]) -> Int64[np.ndarray, " some"]:
    """Those of `index` whose label is one of `classes`, in the same order."""
    return index[np.isin(images.labels[index], list(classes))]


def stratified_sample(
    images: Images, index: Int64[np.ndarray, " n"], count: int, seed: int
) -> Int64[np.ndarray, " some"]:
    """A stratified random sample of about `count` of `index`, ascending: equally many of each class, or all that
    a class has.
    """
    shuffled = np.random.default_rng(seed).permutation(index)
    labels = images.labels[shuffled]
    present = np.unique(labels)
    if not len(present):
        return index
    per_class = -(-count // len(present))
    taken = np.concatenate([shuffled[labels == label][:per_class] for label in present])
    return np.sort(taken)


class Loader:
    """Some images, preprocessed, in batches of (float32 [b, 3, h, w], int64 [b]); iterating follows their order.

    A pass over them has smaller batches than asked for where memory did not suffice (`lib.base.halving`); the steps of
    a training, which is what `shuffled` is for, have not.

    They stay in memory after the first pass if they, and those of all other loaders that are kept so, fit into half of
    BRICKYARD_MEMORY (GiB, 2 by default), else they are decoded anew in each pass by BRICKYARD_WORKERS processes.
    `classes`, where given, renumbers the labels: label classes[i] becomes i. Images come on the device of `images`,
    labels on the CPU.
    """

    def __init__(
        self,
        images: Images,
        index: np.ndarray,
        transform: Transform,
        batch_size: int,
        classes: Sequence[int] | None = None,
    ):
        self.images, self.index, self.transform, self.step_size = images, index, transform, batch_size
        labels = images.labels[index]
        self.num_classes = len(images.classes if classes is None else classes)
        if classes is not None:
            order = np.argsort(classes)
            labels = order[np.searchsorted(np.asarray(classes), labels, sorter=order)]
        self.labels = labels
        self._kept: torch.Tensor | None = None

    @property
    def batch_size(self) -> int:
        """Images of a batch of a pass, but for the last."""
        return halving.size(self.step_size)

    @property
    def steps(self) -> int:
        """Batches of an epoch of a training."""
        return -(-len(self.index) // self.step_size)

    def __len__(self) -> int:
        return -(-len(self.index) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        for x, y in self._batches(np.arange(len(self.index)), self.batch_size):
            halving.made(len(y))
            yield x, y

    def shuffled(
        self, seed: int, epoch: int, change: ImageChange | None = None, share: Share | None = None
    ) -> Iterator[Batch]:
        """The same images in an order that depends on seed and epoch alone, each put through `change` first.

        share: of each batch, those that are wanted.
        """
        order = np.random.default_rng([seed, epoch]).permutation(len(self.index))
        if change is None:
            return self._batches(order, self.step_size, share)
        return self._decoded(order, self.step_size, change, share)

    def all(self) -> Batch:
        """Everything as one batch, for few images."""
        x, y = zip(*self, strict=True)
        return torch.cat(x), torch.cat(y)

    def _batches(self, order: np.ndarray, size: int, share: Share | None = None) -> Iterator[Batch]:
        if self._kept is None and self._fits():
            self._kept = torch.cat([x.cpu() for x, _ in self._decoded(np.arange(len(self.index)), self.batch_size)])
            self.images.decoded[self] = self._kept.nbytes
        if self._kept is None:
            yield from self._decoded(order, size, None, share)
            return
        labels = torch.from_numpy(self.labels)
        for chosen in self._chosen(len(order), size, share):
            rows = torch.from_numpy(order[chosen])
            yield self._kept[rows].to(self.images.device), labels[rows]

    def _chosen(self, images: int, size: int, share: Share | None) -> Iterator[np.ndarray]:
        """Of each batch, the places of what is wanted."""
        for start in range(0, images, size):
            places = np.arange(start, min(start + size, images))
            yield places if share is None else places[share(len(places))]

    def _decoded(
        self, order: np.ndarray, size: int, change: ImageChange | None = None, share: Share | None = None
    ) -> Iterator[Batch]:
        pairs: Any = _Pairs(self, order, change)
        own = torch.Generator()  # else each pass would draw from the global one, which dropout depends on
        batches = [places.tolist() for places in self._chosen(len(order), size, share)]
        for x, y in DataLoader(pairs, batch_sampler=batches, num_workers=environment.workers(), generator=own):
            yield x.to(self.images.device), y

    def _fits(self) -> bool:
        first = self.transform(self.images.image(int(self.index[0])))
        own = first.numel() * first.element_size() * len(self.index)
        return own + sum(self.images.decoded.values()) <= environment.memory() / 2


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
