"""What stages took when they ran here: a file a stage, in no artifact, ignored by git. No result depends on it."""

import os
import re
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from . import artifacts
from .errors import BrickyardError


@dataclass(frozen=True)
class Usage:
    """What a stage took.

    seconds: from its start to its end.
    memory: bytes that its process held at most, 0 where that is not known.
    device: BRICKYARD_DEVICE.
    params: params.yaml, as it was then.
    images: how many there were, by part.
    """

    seconds: float
    memory: int
    device: str = "cpu"
    params: Mapping[str, Any] = field(default_factory=dict)
    images: Mapping[str, int] = field(default_factory=dict)


def note(folder: Path, stage: str, seconds: float, params: Mapping[str, Any], card: Path) -> None:
    """Keeps what this process has taken for a stage that has ended, in place of what an earlier run of it took.

    folder: of the records.
    stage: as DVC calls it; without a name nothing is kept.
    params: the sections of params.yaml.
    card: of the images, if there is one.
    """
    if not re.fullmatch(r"[A-Za-z0-9_@-]+", stage):
        return
    save(folder, stage, Usage(seconds, peak(), device(), params, _images(card)))


def device() -> str:
    """BRICKYARD_DEVICE, as it is written."""
    return os.environ.get("BRICKYARD_DEVICE", "cpu")


def save(folder: Path, stage: str, usage: Usage) -> None:
    """Writes a record, if that can be done."""
    try:
        artifacts.write_json(folder / f"{stage}.json", asdict(usage))
    except (OSError, ValueError, TypeError, RecursionError, BrickyardError):  # a full disk; dates in params.yaml
        return


def load(folder: Path) -> dict[str, Usage]:
    """All records, by stage; those that are damaged, or of another form, are as good as none."""
    from pydantic import TypeAdapter, ValidationError

    found = {}
    for file in sorted(folder.glob("*.json")):
        try:
            found[file.stem] = TypeAdapter(Usage).validate_python(artifacts.read_json(file))
        except (OSError, BrickyardError, ValidationError):
            continue
    return found


def seconds(folder: Path) -> dict[str, float]:
    """How long each stage took, as far as that is known."""
    return {stage: usage.seconds for stage, usage in load(folder).items()}


def peak() -> int:
    """Most bytes that this process has held in memory, files that it has mapped counted in; 0 where the system does not
    tell.

    Where Linux tells it of what runs now: the other figure is at least that of the process from which this one began.
    """
    try:
        told = re.search(r"^VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
        if told:
            return 1024 * int(told[1])
        import resource
    except (OSError, ImportError):
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _images(card: Path) -> dict[str, int]:
    try:
        counts = artifacts.read_json(card)["counts"]
        return {part: sum(own.values()) for part, own in counts.items()}
    except (OSError, BrickyardError, KeyError, AttributeError, TypeError):
        return {}
