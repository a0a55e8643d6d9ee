"""Files that are written whole or not at all, and are still there after the power was cut."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO


def write(path: Path, content: bytes, durable: bool = True) -> None:
    """Writes `content`, whole or not at all; `durable` = False spares the disk where the loss of a file is no harm."""
    with written(path, durable) as file:
        left = memoryview(content)
        while left:
            left = left[file.write(left) :]


@contextmanager
def written(path: Path, durable: bool = True) -> Iterator[BinaryIO]:
    """An unbuffered file that takes the place of `path` when the block ends well; else nothing is left of it.

    It lies beside `path` under another name, is on the disk before it is renamed, and so is the folder's entry
    afterwards. Raises OSError that names `path`.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("w+b", buffering=0) as file:
            yield file
            if durable:
                os.fsync(file.fileno())
        partial.replace(path)
        if durable:
            _sync(path.parent)
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, os.strerror(error.errno), str(path)) from error
    finally:
        with suppress(OSError):  # what stands in the way of this has stood in the way of writing, and is told
            partial.unlink(missing_ok=True)


def _sync(folder: Path) -> None:
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
