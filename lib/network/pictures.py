"""Pictures in files, classified one by one."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from PIL.Image import Image
from torch import nn

from ..base.errors import BrickyardError
from ..images import folders, picture
from ..zoo.card import Input

LONGEST = 64  # side of a picture, in its other side


@torch.no_grad()
def classified(
    folder: Path,
    model: nn.Module,
    expected: Input,
    classes: Sequence[str],
    tell: Callable[[BrickyardError], None] = lambda error: None,
) -> Iterator[tuple[Path, str, float]]:
    """Every image below `folder`, in the order of their paths, its most probable class and the probability in percent.

    A file that cannot be read is left out and the error that names it given to `tell`; BrickyardError is raised after
    the last image then, and at once where there is no such folder or no image in it.
    """
    if not folder.is_dir():
        raise BrickyardError(f"{picture.shown(folder)} is not a folder; name one that holds images")
    files = sorted(file for file in folders.walk(folder) if file.suffix.lower() in picture.SUFFIXES)
    if not files:
        raise BrickyardError(f"{picture.shown(folder)}: no images ({', '.join(sorted(picture.SUFFIXES))})")
    transform = expected.transform()
    errors: list[BrickyardError] = []
    for file in files:
        try:
            image = _middle(picture.opened(file))
        except BrickyardError as error:
            tell(error)
            errors.append(error)
            continue
        scores = torch.softmax(model(transform(image)[None])[0], 0)
        best = int(scores.argmax())
        yield file, classes[best], 100 * float(scores[best])
    if errors:
        raise BrickyardError(f"{len(errors)} of {len(files)} images not classified: {errors[0]}")


def _middle(image: Image) -> Image:
    """Of a long strip the middle part, LONGEST times as long as wide: a transform that scales the shorter side up and
    then cuts out the centre looks at no more, but would make a picture of gigabytes.
    """
    width, height = image.size
    most = LONGEST * min(width, height)
    if max(width, height) <= most:
        return image
    left, top = max(width - most, 0) // 2, max(height - most, 0) // 2
    return image.crop((left, top, left + min(width, most), top + min(height, most)))
