"""What has been computed before, kept by what it was computed from. No result depends on whether it was."""

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

from . import artifacts, environment
from .code import digest, imported_modules, installed
from .errors import BrickyardError
from .versions import of_imports


@dataclass(frozen=True)
class Memo:
    """A folder of tensors, one file for what was put there together; None keeps nothing. A file that is damaged is as
    good as none.

    limit: bytes that `prune` leaves in the folder; what has not been used for longest goes first.
    """

    folder: Path | None = None
    limit: int = 2**28

    def get(self, key: str) -> dict[str, torch.Tensor] | None:
        """The tensors that were put under `key`, bit for bit, or None; this counts as a use."""
        if self.folder is None:
            return None
        file = self._file(key)
        try:
            found = artifacts.read_tensors(file)
        except BrickyardError:
            return None
        with suppress(OSError):  # a folder that can only be read serves as well
            os.utime(file)
        own = below(key, found)
        return own if len(own) == len(found) else None

    def put(self, key: str, tensors: Mapping[str, torch.Tensor]) -> None:
        """Keeps tensors under their key."""
        if self.folder is not None:
            named = {f"{key}.{name}": tensor for name, tensor in tensors.items()}
            artifacts.write_tensors(self._file(key), named, durable=False)

    def prune(self) -> None:
        """Removes files, whole or left behind half written, until `limit` holds; others may be at work here, too."""
        if self.folder is None or not self.folder.is_dir():
            return
        found = []
        for file in self.folder.iterdir():
            with suppress(FileNotFoundError):  # another process may have finished it, or removed it
                if not _is_being_written(file):
                    found.append((file.stat(), file))
        left = sum(stat.st_size for stat, _ in found)
        for stat, file in sorted(found, key=lambda entry: (entry[0].st_mtime_ns, entry[1])):
            if left <= self.limit:
                return
            file.unlink(missing_ok=True)
            left -= stat.st_size

    def _file(self, key: str) -> Path:
        return (self.folder or Path()) / f"{key}.safetensors"


def _is_being_written(file: Path) -> bool:
    """Whether a process that lives is writing it: `files.written` names what is not whole yet by its number."""
    pid = file.name.rpartition(".")[2]
    return file.name.startswith(".") and pid.isdigit() and Path("/proc", pid).exists()


def below(name: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Those whose names begin with `name.`, by the rest of their names."""
    return {key.removeprefix(f"{name}."): value for key, value in tensors.items() if key.startswith(f"{name}.")}


def key(script: Path, *parts: Any) -> str:
    """The key of what `script` computes: `parts` on which it depends, as JSON holds them, the code that it runs, the
    versions of the packages that this imports, the processor and the threads that make its bits.
    """
    whole = [parts, made_by(script), torch.__version__, environment.machine()]
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()


@cache
def made_by(script: Path) -> list[str]:
    """What computes: a digest of the code that a script runs, and the versions of packages that it imports."""
    return [digest([script]), *installed(of_imports(imported_modules(script))).values()]
