"""Reading `params.yaml`: one frozen model a section; a bad value is one line that names its key."""

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ..base.errors import BrickyardError
from .mistakes import validated
from .parse import NotYAMLError

if TYPE_CHECKING:
    from .document import Checked
    from .sections import Sections

PARAMS = Path("params.yaml")
_MISSING = object()
T = TypeVar("T")


def read(key: str, kind: type[T], path: Path = PARAMS) -> T:
    """Returns the part of `path` at the dotted `key`, e.g. `partition` or `zoo.models.resnet`, as a `kind`.

    All sections that are there are checked first, so that a mistake in what a later stage reads is noticed before the
    first one does its work. Raises BrickyardError naming the file and, for each mistake, the key, the value and what is
    allowed.
    """
    found = load(path)
    part: Any = found.values
    for name in key.split("."):
        part = part.get(name, _MISSING) if isinstance(part, dict) else _MISSING
    _raise([*found.mistakes, *([f"{key} is missing"] if part is _MISSING else [])], path)
    value, wrong = validated(part, key, kind)
    _raise(wrong, path)
    return value  # pyright: ignore[reportReturnType]


def read_all(path: Path = PARAMS) -> "Sections":
    """All sections, each of which is there. Raises BrickyardError as `read`, and for each that is missing."""
    found = load(path)
    missing = (f"{name} is missing" for name in vars(found.sections) if name not in found.values)
    _raise((*found.mistakes, *missing), path)
    return found.sections


def load(path: Path = PARAMS) -> "Checked":
    """What `path` says, and what is wrong with it. Raises BrickyardError where it cannot be read at all.

    What checks the other sections can refuse a run, and changes no result: it is not imported but called by name, so
    that no stage depends on sections that it does not read.
    """
    document: Any = importlib.import_module(".document", __package__)
    try:
        return document.read(path.read_bytes())
    except FileNotFoundError:
        raise BrickyardError(f"{path} not found: run from the root of the repository") from None
    except OSError as error:
        raise BrickyardError(f"{path} cannot be read: {error.strerror}") from None
    except NotYAMLError as error:
        raise BrickyardError(f"{path} {error}") from None


def _raise(mistakes: Sequence[str], path: Path) -> None:
    if mistakes:
        raise BrickyardError("; ".join(f"{path}: {line}" for line in mistakes))
