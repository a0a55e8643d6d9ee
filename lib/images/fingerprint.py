"""SHA-256 of files' contents, remembered while a file's inode, size and times stay the same."""

import hashlib
import json
import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from stat import S_ISREG

from ..base.errors import BrickyardError
from ..base.files import write
from ..base.progress import track
from .picture import shown

MARGIN = 2 * 10**9  # ns; a file that changed later than this before it was read may change again within the same tick
MANY = 1000  # files, from which on a terminal shows how far they are

_Entry = tuple[int, int, int, int, str]  # inode, bytes, time of the content's change and of the inode's in ns, SHA-256


def of_files(files: Sequence[Path], cache: Path, check: Callable[[Path], object] | None = None) -> list[str]:
    """The SHA-256 of each file's content; `cache`: a file for what was computed before, made where it is missing or
    damaged.

    check: called once for every content that is not in the cache, before it gets there; a BrickyardError that it raises
    is passed on when all files have been looked at, together with the number of others.
    """
    known = _read(cache)
    entries: dict[str, _Entry] = {}
    found: list[str] = []
    errors: list[BrickyardError] = []
    computed = False
    for file in track(files, "images", len(files)) if len(files) > MANY else files:
        path = os.fspath(file)
        before = _state(file)
        entry = known.get(path)
        if entry is None or entry[:4] != before:
            computed = True
            now = time.time_ns()
            try:
                if check is not None:
                    check(file)
                entry = (*before, _digest(file))
            except BrickyardError as error:
                errors.append(error)
                continue
            settled = max(before[3], before[2] if before[2] <= now else 0) < now - MARGIN
            if settled and _state(file) == before:
                entries[path] = entry
        else:
            entries[path] = entry
        found.append(entry[4])
    if computed or len(entries) < len(known):
        _write(cache, entries)
    if errors:
        more = f" (and {len(errors) - 1} more files)" if len(errors) > 1 else ""
        raise BrickyardError(f"{errors[0]}{more}")
    return found


def _state(file: Path) -> tuple[int, int, int, int]:
    try:
        status = file.stat()
    except OSError as error:
        raise BrickyardError(f"{shown(file)} cannot be read: {error.strerror}") from None
    if not S_ISREG(status.st_mode):
        raise BrickyardError(f"{shown(file)} is no ordinary file")
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _digest(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as error:
        raise BrickyardError(f"{shown(file)} cannot be read: {error.strerror}") from None


def _read(cache: Path) -> dict[str, _Entry]:
    """What `_write` left, or nothing where the file is missing or does not match its own SHA-256."""
    try:
        stated, _, body = cache.read_bytes().partition(b"\n")
    except OSError:
        return {}
    if hashlib.sha256(body).hexdigest().encode() != stated:
        return {}
    return {path: tuple(entry) for path, entry in json.loads(body).items()}


def _write(cache: Path, entries: dict[str, _Entry]) -> None:
    """Whole or not at all; a folder that cannot be written to only costs time in the next run."""
    body = json.dumps(entries).encode()
    with suppress(OSError):
        write(cache, hashlib.sha256(body).hexdigest().encode() + b"\n" + body, durable=False)
