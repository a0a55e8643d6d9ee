"""Pictures in files, classified one by one."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import nn

from lib.errors import BrickyardError
from lib.zoo import Input

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp"}


@torch.no_grad()
def classified(
    folder: Path, model: nn.Module, expected: Input, classes: Sequence[str]
) -> Iterator[tuple[Path, str, float]]:
    """Every image below `folder`, in the order of their paths, its most probable class and the probability in percent.

    Raises BrickyardError where there is no image, and naming the file that is not a readable one.
    """
    files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in SUFFIXES)
    if not files:
        raise BrickyardError(f"{folder}: no images ({', '.join(sorted(SUFFIXES))})")
    transform = expected.transform()
    for file in files:
        scores = torch.softmax(model(transform(_opened(file))[None])[0], 0)
        best = int(scores.argmax())
        yield file, classes[best], 100 * float(scores[best])


def _opened(file: Path) -> Image.Image:
    try:
        with Image.open(file) as opened:
            return opened.convert("RGB")
    except OSError as error:
        raise BrickyardError(f"{file} is not a readable image: {error}") from None
