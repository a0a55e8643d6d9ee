"""Batches of a pass, which are halved when memory does not suffice for them; those of a training's steps are not."""

import re


class _Passes:
    """Of this process. most: images that a batch may have, None: as many as are asked for; largest: of those that
    have been made so far.
    """

    def __init__(self) -> None:
        self.most: int | None = None
        self.largest = 0


_passes = _Passes()


def size(asked: int) -> int:
    """Images of a batch, of which so many are asked for."""
    return asked if _passes.most is None else min(asked, _passes.most)


def made(images: int) -> None:
    """A batch of so many has been made."""
    _passes.largest = max(_passes.largest, images)


def most() -> int | None:
    """Images that a batch may have since memory did not suffice for more; None: it has always sufficed."""
    return _passes.most


def halve() -> tuple[int, int] | None:
    """From now on batches have half as many images as the largest had: both numbers, or None where that was one."""
    had = _passes.largest
    if had < 2:
        return None
    _passes.most, _passes.largest = had // 2, 0
    return had, had // 2


def single() -> bool:
    """Whether no batch has had more than one image."""
    return _passes.largest == 1


def wanting(error: BaseException) -> bool:
    """Whether this error is of memory that does not suffice."""
    told = isinstance(error, RuntimeError) and re.search("out of memory|allocate memory", str(error))
    return isinstance(error, MemoryError) or bool(told)
