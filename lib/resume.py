"""Training that goes on where it was killed: the state after each epoch, in a folder that lives until the end."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch


@contextmanager
def scratch(folder: Path) -> Iterator[Path]:
    """A folder for states that is removed when what happens inside ends well, and kept when it is killed or fails."""
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def key_of(parts: Mapping[str, Any]) -> str:
    """SHA-256 of what a run depends on, as JSON."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def save(folder: Path, key: str, state: dict[str, Any]) -> None:
    """Writes tensors, numbers and plain containers whole, in place of the state before."""
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f".{key}.{os.getpid()}"
    try:
        torch.save(state, partial)
        partial.replace(folder / f"{key}.pt")
    finally:
        partial.unlink(missing_ok=True)


def load(folder: Path, key: str) -> dict[str, Any] | None:
    """The last state of the run `key`; None where there is none that can be read (no code is run from it)."""
    file = folder / f"{key}.pt"
    if not file.is_file():
        return None
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except Exception:  # a damaged state is worth as much as none
        return None
