"""Image folders as people have them: for each the right classes and pixels, or that one line names what is wrong."""

import contextlib
import os
import resource
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.faults import folder_cases, picture_cases
from lib.base.errors import BrickyardError
from lib.images.data import parse_classes
from lib.images.sources import Images, open_images
from lib.params.dataset import Dataset

SIZE = 8


@dataclass(frozen=True)
class Case:
    """make: writes images below a new folder and returns the data set's path; classes: their names in some order, None
    where the data set is to be refused; fragment: what the refusal has to name; counts: images by class; right: what is
    wrong with the pictures of the classes, in words, else None.
    """

    name: str
    make: Callable[[Path], Path]
    classes: tuple[str, ...] | None = None
    fragment: str = ""
    counts: tuple[int, ...] | None = None
    right: Callable[[dict[str, list[np.ndarray]]], str | None] | None = None


@dataclass(frozen=True)
class Chosen:
    """Class strings: which of `names` the text means, None where it is to be refused."""

    text: str
    names: tuple[str, ...]
    indices: tuple[int, ...] | None


def cases() -> Iterator[Case | Chosen]:
    """All of them."""
    for name, make, right in picture_cases.RIGHT:
        yield Case(f"picture: {name}", make, ("cat", "dog"), right=right)
    for name, make, fragment in picture_cases.REFUSED:
        yield Case(f"picture: {name}", make, fragment=fragment)
    for name, make, classes, counts in folder_cases.RIGHT:
        yield Case(f"folder: {name}", make, classes, counts=counts)
    for name, make, fragment in folder_cases.REFUSED:
        yield Case(f"folder: {name}", make, fragment=fragment)
    for text, names, indices in folder_cases.CHOSEN:
        yield Chosen(text, names, indices)


def fault(case: Case | Chosen, folder: Path) -> str | None:
    """What is wrong with how a case is answered, in words; None when it is right."""
    try:
        with _little_memory():
            return _chosen(case) if isinstance(case, Chosen) else _opened(case, folder)
    except Exception as error:  # this is what is looked for
        return f"traceback {type(error).__name__}: {' '.join(str(error).split())[:200]}"


@contextlib.contextmanager
def _little_memory() -> Iterator[None]:
    """Inside, no more than a GiB beside what is taken already: a range that is expanded unchecked ends in an error."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + 2**30, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def _chosen(case: Chosen) -> str | None:
    try:
        found = tuple(parse_classes(case.text, case.names, "zoo.models.net.classes"))
    except BrickyardError as error:
        return f"refused: {error}" if case.indices is not None else _line(error, "zoo.models.net.classes")
    if case.indices is None:
        return f"taken for {found[:5]}"
    return None if found == case.indices else f"{found} instead of {case.indices}"


def _opened(case: Case, folder: Path) -> str | None:
    with contextlib.chdir(folder):  # archives are unpacked below the working directory
        path = case.make(folder / "images")
        left = _below(folder / ".scratch")
        for _ in range(2):  # a second attempt must not meet what a failed one left behind
            try:
                images = open_images(_source(path), folder / ".scratch")
                pictures = _decoded(images)
            except BrickyardError as error:
                if case.classes is not None:
                    return f"refused: {error}"
                said = _line(error, case.fragment)
                if said:
                    return said
                continue
            if case.classes is None:
                return f"accepted: classes {', '.join(map(ascii, images.classes))}"
            return _compared(case, images, pictures)
        partial = [file for file in _below(folder / ".scratch") - left if "unpacked/" in file]
        return f"refused, but {sorted(partial)[0]} is left behind" if partial else None


def _source(path: Path) -> Dataset:
    return Dataset(
        source="folder", path=str(path), name=None, image_size=SIZE, validation=0.2, test=0.2, probe_images=4
    )


def _decoded(images: Images) -> dict[str, list[np.ndarray]]:
    """Pictures [8, 8, 3] by class, in the order of the files."""
    found: dict[str, list[np.ndarray]] = {name: [] for name in images.classes}
    for i, label in enumerate(images.labels):
        picture = images.image(i)
        if picture.mode != "RGB" or picture.size != (SIZE, SIZE):
            raise ValueError(f"a picture of mode {picture.mode} and size {picture.size}")
        found[images.classes[label]].append(np.asarray(picture).astype(int))
    return found


def _compared(case: Case, images: Images, pictures: dict[str, list[np.ndarray]]) -> str | None:
    assert case.classes is not None
    if sorted(images.classes) != sorted(case.classes):
        return f"classes {', '.join(map(ascii, images.classes))} instead of {', '.join(map(ascii, case.classes))}"
    if len(set(images.classes)) != len(images.classes):
        return "two classes have one name"
    if case.counts is not None:
        found = tuple(len(pictures[name]) for name in case.classes)
        if found != case.counts:
            return f"{found} images of {', '.join(map(ascii, case.classes))} instead of {case.counts}"
    return case.right(pictures) if case.right else None


def _line(error: BrickyardError, fragment: str) -> str | None:
    text = str(error)
    if len(text.splitlines()) != 1 or not text.isprintable():
        return f"not one line: {text!r}"
    return None if fragment in text else f"the line does not name {fragment!r}: {text}"


def _below(folder: Path) -> set[str]:
    return {os.fsencode(path).decode("latin-1") for path in folder.rglob("*")}


def names(found: Sequence[Case | Chosen]) -> list[str]:
    """Of cases, for tests."""
    return [case.name if isinstance(case, Case) else f"classes: {case.text[:20]}" for case in found]
