"""Data sets of torchvision: by which arguments their parts are opened, and what class each image belongs to.

torchvision has no word for either: signatures and documentation tell the first, attributes or the images themselves the
second.
"""

import inspect
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, count
from operator import index
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64

from ..base.errors import BrickyardError
from .labels import fault

OURS = ("root", "transform", "target_transform", "transforms", "download", "loader")  # arguments that no user gives
NAMES = {  # of the parts, where the argument is called `split`
    "train": ("train", "trainval", "train-standard"),
    "test": ("test",),
    "validation": ("val", "valid"),
}


@dataclass(frozen=True)
class Published:
    """An opened data set.

    parts: torchvision's data sets, `train` and, where there are some, `test` and `validation`.
    labels: of their images.
    classes: names by label; each has images.
    notes: lines on what was left out.
    """

    parts: dict[str, Any]
    labels: dict[str, np.ndarray]
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()


def open_published(name: str, options: Mapping[str, Any], root: Path) -> Published:
    """The class `name` of torchvision.datasets, downloaded to `root` where it is not there and can be.

    options: further arguments, such as `split` of EMNIST. One that divides the data (`train`, `split`) is ours
        unless it is named here; a set without any is one part.

    Raises BrickyardError where there is no such class, where an argument is unknown or lacking, where torchvision
    cannot open it, where train images do not belong to one class each, and where a class has a name that none can have.
    """
    from torchvision import datasets

    who = f"dataset.name = {name!r}"
    kind = getattr(datasets, name, None)
    if not inspect.isclass(kind):
        raise BrickyardError(f"{who}: no data set of torchvision.datasets has this name")
    arguments = _arguments(kind)
    free = [argument for argument in arguments if argument not in OURS]
    for option in options:
        if option not in free:
            known = _some(free) or "none at all"
            raise BrickyardError(f"dataset.options.{option}: {name} has no such argument; it has {known}")
    choices = _choices(kind, arguments, options)
    for argument in free:
        if arguments[argument].default is inspect.Parameter.empty and argument not in choices["train"]:
            known = _some(_quoted(kind.__doc__ or "", argument))
            raise BrickyardError(f"{who}: needs dataset.options.{argument}{known and f' ({known})'}")
    opener: Any = kind
    try:
        parts = {part: opener(root, **choice) for part, choice in choices.items()}
        labels = {part: _labels(opened, options) for part, opened in parts.items()}
    except _NoClasses:
        raise BrickyardError(f"{who}: its images do not belong to one class each") from None
    except Exception as error:  # whatever a data set raises: most are downloaded, some need other packages
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise BrickyardError(f"{who}: torchvision cannot open it: {reason}") from None
    return _named(who, parts, labels, options)


class _NoClasses(Exception):
    """Targets are no classes."""


def _arguments(kind: type) -> dict[str, inspect.Parameter]:
    """Those of a class, and of what it hands on to."""
    found: dict[str, inspect.Parameter] = {}
    for base in inspect.getmro(kind):
        if "__init__" not in vars(base) or base is object:
            continue
        own = dict(list(inspect.signature(base.__init__).parameters.items())[1:])  # type: ignore[misc]
        kinds = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
        found |= {key: one for key, one in own.items() if one.kind not in kinds and key not in found}
        if not any(one.kind is inspect.Parameter.VAR_KEYWORD for one in own.values()):
            break
    return found


def _choices(
    kind: type, arguments: Mapping[str, inspect.Parameter], options: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """The arguments of each part."""
    choices: dict[str, dict[str, Any]] = {"train": {}}
    if "train" in arguments and "train" not in options:
        choices = {"train": {"train": True}, "test": {"train": False}}
    elif "split" in arguments and "split" not in options:
        said = _quoted(kind.__doc__ or "")
        found = {part: [name for name in own if name in said] for part, own in NAMES.items()}
        choices = {part: {"split": own[0]} for part, own in found.items() if own}
        if "train" not in choices:
            choices = {part: {"split": part} for part in ("train", "test")}
    always = {**options, **({"download": True} if "download" in arguments else {})}
    return {part: {**always, **choice} for part, choice in choices.items()}


def _quoted(doc: str, argument: str = "") -> list[str]:
    """The names in quotes in a documentation, or in what that says of an argument."""
    if argument:
        found = re.search(rf"^\s*{argument} \(.*?(?=^\s*\w+ \(|\Z)", doc, re.MULTILINE | re.DOTALL)
        doc = found[0] if found else ""
    return re.findall(r"[\"'`]([\w+-]+)[\"'`]", doc)


def _some(names: list[str]) -> str:
    return " | ".join(dict.fromkeys(names))


def _labels(part: Any, options: Mapping[str, Any]) -> Int64[np.ndarray, " n"] | None:
    """None where the images have none. What a data set keeps is taken where it is what it gives with its images, else
    all images are opened.
    """
    first = part[0][1]
    if first is None:
        return None
    kept = [getattr(part, name, None) for name in ("targets", "labels", "_labels", "y")]
    kept += [[one[-1] for one in pairs] for name in ("_samples", "samples") if (pairs := getattr(part, name, None))]
    if not _other_targets(options):
        for labels in kept:
            found = np.asarray([] if labels is None else labels)
            if found.shape == (len(part),) and found.dtype.kind in "iu" and found[0] == _class(first):
                return found.astype(np.int64)
    return np.asarray([_class(part[i][1]) for i in range(len(part))], np.int64)


def _other_targets(options: Mapping[str, Any]) -> bool:
    """Whether images are asked to be told apart by something else than usual."""
    return any(option.startswith("target") for option in options)


def _class(target: Any) -> int:
    try:
        return index(target)
    except TypeError:
        raise _NoClasses from None


def _named(
    who: str, parts: Mapping[str, Any], labels: Mapping[str, np.ndarray | None], options: Mapping[str, Any]
) -> Published:
    """Without parts that have no labels, and without classes that have no images."""
    known = {part: own for part, own in labels.items() if own is not None}
    if "train" not in known:
        raise BrickyardError(f"{who}: its images do not belong to one class each")
    notes = [f"{who}: its {part} images have no labels; not read" for part in labels if part not in known]
    present = np.unique(np.concatenate(list(known.values())))
    given = getattr(parts["train"], "classes", None) or getattr(parts["train"], "categories", None)
    if given is None or _other_targets(options) or not 0 <= present.min() <= present.max() < len(given):
        names = {int(label): str(label) for label in present}
    else:
        said = [", ".join(one) if isinstance(one, tuple) else str(one) for one in given]
        names = dict(enumerate(_told_apart(said, getattr(parts["train"], "wnids", None))))
        without = [repr(name) for label, name in names.items() if label not in present]
        if without:
            notes.append(f"{who}: there is no image of {', '.join(without)}; left out")
    for label in map(int, present):
        if reason := fault(names[label]):
            raise BrickyardError(f"{who}: class {label} is called {names[label][:80]!r}, which {reason}")
    return Published(
        {part: parts[part] for part in known},
        {part: np.searchsorted(present, own) for part, own in known.items()},
        tuple(names[int(label)] for label in present),
        tuple(notes),
    )


def _told_apart(names: Sequence[str], synsets: Sequence[str] | None) -> list[str]:
    """The names; such as occur again with their synsets of WordNet, where these are known, or with numbers: two classes
    of ImageNet are called crane.
    """
    counts = Counter(names)
    made: list[str] = []
    for label, name in enumerate(names):
        marked = [f"{name} ({synsets[label]})"] if synsets else []
        numbered = (f"{name} {number}" for number in count(1))
        free = (one for one in chain(marked, numbered) if one not in counts and one not in made)
        made.append(name if counts[name] == 1 else next(free))
    return made
