"""Tiles that have been computed before, kept by what they were computed from."""

import hashlib
import json
import os
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

from ...base import artifacts
from ...base.code import digest, installed
from ...base.errors import BrickyardError


@dataclass(frozen=True)
class Memo:
    """A folder of tiles, one file each; None keeps nothing. A file that is damaged is as good as none.

    limit: bytes that `prune` leaves in the folder; what has not been used for longest goes first.
    """

    folder: Path | None = None
    limit: int = 2**28

    def get(self, key: str) -> torch.Tensor | None:
        """The tile that was put under `key`, bit for bit, or None; this counts as a use."""
        if self.folder is None:
            return None
        file = self._file(key)
        try:
            found = artifacts.read_tensors(file).get(key)
        except BrickyardError:
            return None
        with suppress(OSError):  # a folder that can only be read serves as well
            os.utime(file)
        return found

    def put(self, key: str, tile: torch.Tensor) -> None:
        """Keeps a tile under its key."""
        if self.folder is not None:
            artifacts.write_tensors(self._file(key), {key: tile}, durable=False)

    def prune(self) -> None:
        """Removes files, whole or left behind half written, until `limit` holds."""
        if self.folder is None or not self.folder.is_dir():
            return
        found = [(file.stat(), file) for file in self.folder.iterdir()]
        left = sum(stat.st_size for stat, _ in found)
        for stat, file in sorted(found, key=lambda entry: (entry[0].st_mtime_ns, entry[1])):
            if left <= self.limit:
                return
            file.unlink(missing_ok=True)
            left -= stat.st_size

    def _file(self, key: str) -> Path:
        return (self.folder or Path()) / f"{key}.safetensors"


def key(*parts: str) -> str:
    """The key of a tile: what it depends on, and the code, packages, processor and threads that make its bits."""
    machine = [torch.__version__, torch.backends.cpu.get_cpu_capability(), str(torch.get_num_threads())]
    return hashlib.sha256(json.dumps([parts, made_by(), machine]).encode()).hexdigest()


@cache
def made_by() -> list[str]:
    """What computes a tile, beside torch: the code that `matrix` runs, numpy and scipy."""
    return [digest([Path(__file__).with_name("matrix.py")]), *installed(["numpy", "scipy"]).values()]
