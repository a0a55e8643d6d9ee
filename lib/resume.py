"""Training that goes on where it was killed: the state after each epoch, in a folder that lives until the end."""

import hashlib
import io
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from lib import files

DIGEST = hashlib.sha256().digest_size  # bytes


@contextmanager
def scratch(folder: Path) -> Iterator[Path]:
    """A folder for states that is removed when what happens inside ends well, and kept when it is killed or fails."""
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def key_of(parts: Mapping[str, Any]) -> str:
    """SHA-256 of what a run depends on, as JSON."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def save(folder: Path, key: str, state: dict[str, Any]) -> None:
    """Writes tensors, numbers and plain containers whole, behind their SHA-256, in place of the state before."""
    made = io.BytesIO()
    torch.save(state, made)
    files.write(folder / f"{key}.pt", hashlib.sha256(made.getbuffer()).digest() + made.getbuffer())


def load(folder: Path, key: str) -> dict[str, Any] | None:
    """The last state of the run `key`, on the CPU; None where there is none, or one that is damaged: it does not match
    its SHA-256. No code is run from it. Errors of the machine (a file that may not be read, no memory) are raised.
    """
    file = folder / f"{key}.pt"
    if not file.is_file():
        return None
    content = memoryview(file.read_bytes())
    if hashlib.sha256(content[DIGEST:]).digest() != content[:DIGEST]:
        return None
    return torch.load(io.BytesIO(content[DIGEST:]), map_location="cpu", weights_only=True)
