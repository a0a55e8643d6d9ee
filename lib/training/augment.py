"""Random changes of train images. Each depends on the seed, the epoch and the image or step alone."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Int64
from torch.nn import functional as F

from ..images.data import ImageChange, Loader
from ..params.training import Augmentation

if TYPE_CHECKING:
    from PIL.Image import Image


@contextmanager
def seeded(*numbers: int) -> Iterator[None]:
    """Inside, the global generators of Python and numpy start from `numbers`; afterwards they go on as before."""
    state = int(np.random.SeedSequence(numbers).generate_state(1)[0])
    kept_python, kept_numpy = random.getstate(), np.random.get_state()
    random.seed(state)
    np.random.seed(state)
    try:
        yield
    finally:
        random.setstate(kept_python)
        np.random.set_state(kept_numpy)


class Augment:
    """What `settings` ask for, on the images of `train`; mixed labels are smoothed by `label_smoothing`."""

    def __init__(self, settings: Augmentation, train: Loader, label_smoothing: float, seed: int):
        self._settings, self._seed = settings, seed
        self._operations = None if settings.randaugment is None else _rand_augment(settings.randaugment, train)
        self._mixup = None
        if settings.mixup > 0 or settings.cutmix > 0:
            from timm.data import Mixup

            self._mixup = Mixup(
                settings.mixup, settings.cutmix, label_smoothing=label_smoothing, num_classes=train.num_classes
            )

    def image_change(self, epoch: int) -> ImageChange | None:
        """RandAugment of an image, given its index in the data set, before its transform; None where there is none."""
        return None if self._operations is None else partial(_changed, self._operations, self._seed, epoch)

    def left(self, n: int) -> int:
        """How many of n images a batch has afterwards: one of odd length loses its last where it is mixed in pairs."""
        return n if self._mixup is None or n == 1 else n // 2 * 2

    def batch(
        self,
        x: torch.Tensor,
        y: torch.Tensor,
        epoch: int,
        step: int,
        rows: Int64[np.ndarray, " own"] | None = None,
        n: int | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Crops, flips and mixes a batch [b, 3, h, w] with labels [b]; mixed labels are shares [b, classes].

        rows: of a batch of n images, where these are some of it; of each i, n - 1 - i is another. They become what they
            would in the whole batch.
        """
        settings = self._settings
        n = len(x) if n is None else n
        own = slice(None) if rows is None or len(x) == n else torch.from_numpy(rows)
        generator = torch.Generator().manual_seed(_number(self._seed, epoch, step))
        if settings.crop_padding:
            x = _crop(x, settings.crop_padding, generator, n, own)
        if settings.flip:
            flipped = (torch.rand(n, generator=generator) < 0.5)[own]
            x = torch.where(flipped.to(x.device)[:, None, None, None], x.flip(3), x)
        if self._mixup is not None and len(x) > 1:
            even = self.left(len(x))
            with seeded(self._seed, epoch, step):
                x, y = self._mixup(x[:even].clone(), y[:even])
        return x, y


def _changed(operations: Callable[["Image"], "Image"], seed: int, epoch: int, image: "Image", i: int) -> "Image":
    with seeded(seed, epoch, i):
        return operations(image)


def _crop(x: torch.Tensor, padding: int, generator: torch.Generator, n: int, own: slice | torch.Tensor) -> torch.Tensor:
    """A random window of the size of the images within their zero-padded selves, one an image."""
    batch, _, height, width = x.shape
    padded = F.pad(x, (padding,) * 4)
    top, left = (torch.randint(0, 2 * padding + 1, (n,), generator=generator)[own].to(x.device) for _ in range(2))
    rows = top[:, None] + torch.arange(height, device=x.device)
    columns = left[:, None] + torch.arange(width, device=x.device)
    images = torch.arange(batch, device=x.device)[:, None, None]
    return padded.permute(0, 2, 3, 1)[images, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def _rand_augment(notation: str, train: Loader) -> Callable[["Image"], "Image"]:
    from timm.data.auto_augment import rand_augment_transform

    size = min(train.images.image(int(train.index[0])).size)
    made = rand_augment_transform(notation, {"translate_const": int(0.45 * size), "img_mean": (128, 128, 128)})
    for operation in made.ops:
        if operation.name.startswith("Posterize"):
            operation.aug_fn = _posterize
    return made


def _posterize(image: "Image", bits: int, **_: Any) -> "Image":
    """timm's strongest level asks for 0 bits, which Pillow refuses: one is kept."""
    from PIL.ImageOps import posterize

    return posterize(image, min(max(bits, 1), 8))


def _number(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])
