"""Folders and archives of images as people have them, and which classes must be found in each."""

import io
import os
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

from PIL import Image

Make = Callable[[Path], Path]


def _image(colour: int = 0) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (colour % 256, 40, 90)).save(buffer, "PNG")
    return buffer.getvalue()


def tree(*folders: str, count: int = 4, extra: Mapping[str, bytes] | None = None) -> dict[str, bytes]:
    """Files by path: `count` images in every folder, and `extra`."""
    files = {f"{folder}/{i}.png": _image(20 * i + 7 * len(folder)) for folder in folders for i in range(count)}
    return files | dict(extra or {})


def _written(files: Mapping[str, bytes], empty: tuple[str, ...] = ()) -> Make:
    """As a folder."""

    def make(root: Path) -> Path:
        for name in empty:
            (root / name).mkdir(parents=True)
        for name, content in files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return root

    return make


def _packed(name: str, files: Mapping[str, bytes], encoding: str = "utf-8", keep: float = 1) -> Make:
    """As an archive; keep: the share of its bytes that a broken download has left."""

    def make(root: Path) -> Path:
        root.mkdir(parents=True)
        path = root / name
        if name.endswith(".zip"):
            with zipfile.ZipFile(path, "w") as archive:
                for member, content in files.items():
                    archive.writestr(member, content)
        else:
            with tarfile.open(
                path, "w:gz" if name.endswith("gz") else "w", format=tarfile.GNU_FORMAT, encoding=encoding
            ) as archive:
                for member, content in files.items():
                    info = tarfile.TarInfo(member)
                    info.size = len(content)
                    archive.addfile(info, io.BytesIO(content))
        if keep < 1:
            path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])
        return path

    return make


def _linked_round(root: Path) -> Path:
    """A class folder with a link to the folder above it."""
    _written(tree("cat", "dog"))(root)
    (root / "cat" / "all").symlink_to(root, target_is_directory=True)
    return root


def _bytes_name(root: Path) -> Path:
    """A class whose name is Latin-1 on the disk."""
    _written(tree("dog"))(root)
    folder = root / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    for i in range(4):
        (folder / f"{i}.png").write_bytes(_image(i))
    return root


_PET = ("cat", "dog")
_APPLE = {"cat/._0.png": b"\x00\x05\x16\x07", "dog/._1.png": b"\x00\x05\x16\x07", "._cat": b"\x00\x05\x16\x07"}
_LEFT = {"cat/Thumbs.db": b"x", ".DS_Store": b"x", "cat/notes.txt": b"x", "labels.csv": b"x"}

RIGHT: list[tuple[str, Make, tuple[str, ...], tuple[int, ...] | None]] = [
    ("plain", _written(tree(*_PET)), _PET, (4, 4)),
    ("nested", _written(tree("cat/monday", "cat/tuesday", "dog/monday", "dog/tuesday")), _PET, (8, 8)),
    ("nested deeply, one beside", _written(tree("cat/a/b/c", "cat", "dog")), _PET, (8, 4)),
    ("hidden folders", _written(tree("cat", "dog", "cat/.ipynb_checkpoints", "dog/.thumbs", ".git/x")), _PET, (4, 4)),
    ("AppleDouble", _written(tree(*_PET, extra=_APPLE)), _PET, (4, 4)),
    ("what file managers leave", _written(tree(*_PET, extra=_LEFT)), _PET, (4, 4)),
    ("__MACOSX", _written(tree("cat", "dog", extra={"__MACOSX/cat/._0.png": b"x"})), _PET, (4, 4)),
    ("val/", _written(tree("train/cat", "train/dog", "val/cat", "val/dog")), _PET, (8, 8)),
    ("val/ and test/", _written(tree(*(f"{p}/{c}" for p in ("train", "val", "test") for c in _PET))), _PET, (12, 12)),
    ("test/", _written(tree("train/cat", "train/dog", "test/cat", "test/dog")), _PET, (8, 8)),
    ("numeric names", _written(tree("1", "2", "10")), ("1", "2", "10"), (4, 4, 4)),
    ("names that differ in case", _written(tree("Tomato", "tomato", "fig")), ("Tomato", "tomato", "fig"), (4, 4, 4)),
    ("names with commas", _written(tree("bird, caged", "bird, wild")), ("bird, caged", "bird, wild"), (4, 4)),
    ("names with spaces and é", _written(tree("grand café", "日本")), ("grand café", "日本"), (4, 4)),
    ("Latin-1 on the disk", _bytes_name, ("café", "dog"), (4, 4)),
    ("file names with a tab and a newline", _written(tree(*_PET, extra={"cat/a\tb\nc.png": _image(3)})), _PET, (5, 4)),
    ("a link that leads back", _linked_round, _PET, (4, 4)),
    ("a folder named as a picture", _written(tree("cat", "cat/old.png", "dog")), _PET, (8, 4)),
    ("classes of unequal size", _written(tree("cat", count=40) | tree("dog", count=3)), _PET, (40, 3)),
    ("tar", _packed("pets.tar", tree(*_PET)), _PET, (4, 4)),
    ("tar.gz with one folder around", _packed("pets.tar.gz", tree("pets/cat", "pets/dog")), _PET, (4, 4)),
    ("tar with ._ files", _packed("pets.tar", tree(*_PET, extra=_APPLE)), _PET, (4, 4)),
    ("tar with Latin-1 names", _packed("pets.tar", tree("café", "dog"), "latin-1"), ("café", "dog"), (4, 4)),
]  # fmt: skip

REFUSED: list[tuple[str, Make, str]] = [
    ("nothing there", lambda root: root, "images"),
    ("empty", _written({}, ("nothing",)), "images"),
    ("one class", _written(tree("cat")), "one"),
    ("too few", _written(tree("cat") | tree("dog", count=1)), "dog"),
    ("a stray picture", _written(tree(*_PET, extra={"stray.png": _image()})), "stray.png"),
    ("pictures alone", _written({f"{i}.png": _image(i) for i in range(5)}), "images"),
    ("an empty class", _written(tree(*_PET), ("bird",)), "bird"),
    ("an empty class in test", _written(tree("train/cat", "train/dog", "test/cat"), ("test/dog",)), "dog"),
    ("a class missing in test", _written(tree("train/cat", "train/dog", "test/cat")), "dog"),
    ("a class missing in train", _written(tree("train/cat", "train/dog", "test/cat", "test/dog", "test/bird")), "bird"),
    ("test without train", _written(tree("test/cat", "test/dog")), "train"),
    ("a class of another format", _written(tree("cat", "dog", extra={"fox/0.heic": b"x", "fox/1.heic": b"y"})), "fox"),
    ("tar.gz cut short", _packed("pets.tar.gz", tree(*_PET), keep=0.6), "pets.tar.gz"),
    ("tar cut short", _packed("pets.tar", tree(*_PET, count=30), keep=0.5), "pets.tar"),
    ("tar cut between two members", _packed("pets.tar", tree(*_PET), keep=0.3), "pets.tar"),
    ("zip cut short", _packed("pets.zip", tree(*_PET), keep=0.6), "pets.zip"),
    ("tar that leads outside", _packed("pets.tar", tree(*_PET, extra={"../../out.png": _image()})), "pets.tar"),
    ("text named tar", lambda root: _written({"pets.tar": b"<html>404</html>"})(root) / "pets.tar", "pets.tar"),
]  # fmt: skip

_DIGITS = ("1", "2", "3", "4", "5")
CHOSEN: list[tuple[str, tuple[str, ...], tuple[int, ...] | None]] = [
    ("1-3", _DIGITS, (0, 1, 2)),
    ("1,2,3", _DIGITS, (0, 1, 2)),
    ("1-5", _DIGITS, (0, 1, 2, 3, 4)),
    ("0", _DIGITS, None),
    ("5-6", _DIGITS, None),
    ("0-1", ("cat", "dog", "fox"), (0, 1)),
    ("fox, cat", ("cat", "dog", "fox"), (0, 2)),
    ("all", ("cat", "dog", "fox"), (0, 1, 2)),
    ("0-3", ("cat", "dog", "fox"), None),
    ("2-1", ("cat", "dog", "fox"), None),
    ("", ("cat", "dog", "fox"), None),
    ("cat,", ("cat", "dog", "fox"), None),
    ("cat,bird", ("cat", "dog", "fox"), None),
    ("0-9999999999", ("cat", "dog", "fox"), None),
    ("0-" + 40 * "9", ("cat", "dog", "fox"), None),
    ("²", ("cat", "dog", "fox"), None),
    ("-1", ("cat", "dog", "fox"), None),
    ("t-shirt", ("shirt", "t-shirt"), (1,)),
    ("bird, wild", ("bird, caged", "bird, wild", "dog"), (1,)),
]
