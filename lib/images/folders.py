"""Image folders: one sub-folder a class, images below it at any depth; parts for training, validation and testing."""

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..base.errors import BrickyardError
from . import labels, picture
from .picture import shown

PARTS = {  # names in any case, as a folder or as an archive
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".zip")
_NOT_MEANT = {"__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "@eadir", "lost+found"}


@dataclass(frozen=True)
class Folder:
    """The images of one part: files by class name, both in natural order; other: files that are no images."""

    root: Path
    files: dict[str, list[Path]]
    other: list[Path]


def read(root: Path) -> Folder:
    """The classes below `root` and their images; what is hidden, or left by a file manager, does not count.

    Raises BrickyardError naming pictures beside the class folders, a class without images, two of one name, or a name
    that no class can have.
    """
    files: dict[str, list[Path]] = {}
    other: list[Path] = []
    folders, beside = _children(root)
    for path in beside:
        if path.suffix.lower() in picture.SUFFIXES:
            raise BrickyardError(f"{shown(path)} lies beside the class folders; move it into the folder of its class")
        other.append(path)
    if not folders:
        raise BrickyardError(f"{shown(root)}: no images found; expected one sub-folder of images a class")
    for folder in folders:
        name = class_name(folder.name)
        if reason := labels.fault(name):
            raise BrickyardError(f"{shown(folder)}: its class would be called {name!r}, which {reason}; rename it")
        if name in files:
            raise BrickyardError(f"{shown(root)}: two folders are named {name!r}; put their images together")
        found = list(walk(folder, avoid=root))
        files[name] = [path for path in found if path.suffix.lower() in picture.SUFFIXES]
        odd = [path for path in found if path.suffix.lower() not in picture.SUFFIXES]
        if not files[name]:
            but = f"; of what is there ({kinds(odd)}) nothing can be read" if odd else ""
            raise BrickyardError(f"{shown(folder)} has no images{but}; fill the folder or remove it")
        other += odd
    return Folder(root, {name: files[name] for name in sorted(files, key=_natural)}, other)


def order(folder: Folder) -> list[tuple[str, Path]]:
    """(class, file) pairs in the natural order of their paths."""
    pairs = [(name, file) for name, files in folder.files.items() for file in files]
    return sorted(pairs, key=lambda pair: _natural(str(pair[1].relative_to(folder.root))))


def parts(root: Path) -> dict[str, Path]:
    """Folders or archives below `root` for `train`, `validation` and `test`, or `root` itself as `train`.

    Raises BrickyardError where there are images to test or validate but none to train, or two folders for one part.
    """
    folders, files = _children(root)
    named = {part: [path for path in folders if path.name.lower() in names] for part, names in PARTS.items()}
    packed = {part: [path for path in files if _stem(path.name) in names] for part, names in PARTS.items()}
    found = {part: named[part] or packed[part] for part in PARTS if named[part] or packed[part]}
    if len(found) == 1 and all(path.is_dir() and not _children(path)[0] for path in next(iter(found.values()))):
        return {"train": root}  # a class of this name
    for part, here in found.items():
        if len(here) > 1:
            raise BrickyardError(f"{shown(root)}: {here[0].name!r} and {here[1].name!r} are both for {part}; keep one")
    if found and "train" not in found:
        raise BrickyardError(
            f"{shown(root)}: has {next(iter(found.values()))[0].name!r} but no folder or archive 'train'"
        )
    return {part: here[0] for part, here in found.items()} or {"train": root}


def inner(root: Path) -> Path:
    """Where the classes or parts begin in what an archive held: below folders that hold one folder of folders alone."""
    found, files = _children(root)
    while len(found) == 1 and _children(found[0])[0] and not any(_counts(file) for file in files):
        root = found[0]
        found, files = _children(root)
    return root


def beside(root: Path, taken: Sequence[Path]) -> list[str]:
    """Names of the folders and archives in `root` that are none of its parts."""
    folders, files = _children(root)
    candidates = [*folders, *(path for path in files if path.name.lower().endswith(ARCHIVES))]
    return [path.name for path in candidates if path not in taken]


def walk(folder: Path, avoid: Path | None = None) -> Iterator[Path]:
    """All files below `folder`, through links, too, each folder once; what is hidden does not count.

    avoid: with it, links to this folder or one that it lies in lead nowhere. Raises BrickyardError naming a folder that
    may not be read.
    """
    seen = {_identity(path) for path in ((avoid.resolve(), *avoid.resolve().parents) if avoid else ())}
    waiting = [folder]
    while waiting:
        path = waiting.pop()
        identity = _identity(path)
        if identity not in seen:
            seen.add(identity)
            folders, files = _children(path)
            yield from files
            waiting += reversed(folders)


def class_name(folder: str) -> str:
    """The name of a class: its folder's, in the one form (NFC) that macOS and others agree on; bytes that are no UTF-8
    are read as Latin-1.
    """
    try:
        folder.encode()
    except UnicodeEncodeError:
        folder = os.fsencode(folder).decode("latin-1")
    return unicodedata.normalize("NFC", folder)


def kinds(paths: Sequence[Path]) -> str:
    """How many files of which suffixes, most first: `.heic 12, .txt 1`."""
    counts = Counter(path.suffix.lower() or "without suffix" for path in paths)
    return ", ".join(
        f"{suffix} {count}" for suffix, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    )


def _children(folder: Path) -> tuple[list[Path], list[Path]]:
    """Folders and files in `folder`, each by name, without what is hidden."""
    try:
        with os.scandir(folder) as entries:
            found = sorted(
                (entry.name, entry.is_dir())
                for entry in entries
                if not entry.name.startswith(".") and entry.name.lower() not in _NOT_MEANT
            )
    except OSError as error:
        raise BrickyardError(f"{shown(folder)} cannot be read: {error.strerror}") from None
    folders, files = ([folder / name for name, is_folder in found if is_folder is kind] for kind in (True, False))
    return folders, files


def _counts(file: Path) -> bool:
    return file.suffix.lower() in picture.SUFFIXES or file.name.lower().endswith(ARCHIVES)


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def _stem(name: str) -> str:
    """The name of an archive without its suffix, in small letters; empty for other files."""
    name = name.lower()
    return next((name.removesuffix(suffix) for suffix in ARCHIVES if name.endswith(suffix)), "")


def _natural(name: str) -> tuple[list[str | int], str]:
    """A key that sorts numbers by their value and letters whatever their case; then by code points."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name.lower())], name
