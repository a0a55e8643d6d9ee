"""Tiles that have been computed before, kept by what they were computed from."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch

from lib import artifacts
from lib.errors import BrickyardError


@dataclass(frozen=True)
class Memo:
    """A folder of tiles, one file each; None keeps nothing. A file that is damaged is as good as none."""

    folder: Path | None = None

    def get(self, key: str) -> torch.Tensor | None:
        """The tile that was put under `key`, bit for bit, or None."""
        if self.folder is None:
            return None
        try:
            return artifacts.read_tensors(self._file(key)).get(key)
        except BrickyardError:
            return None

    def put(self, key: str, tile: torch.Tensor) -> None:
        """Keeps a tile."""
        if self.folder is not None:
            artifacts.write_tensors(self._file(key), {key: tile})

    def _file(self, key: str) -> Path:
        return (self.folder or Path()) / f"{key}.safetensors"


def key(*parts: str) -> str:
    """Of a tile: what it depends on, and the code, the libraries, the processor and the threads that make its bits."""
    code = [hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(Path(__file__).parent.glob("*.py"))]
    machine = [torch.__version__, torch.backends.cpu.get_cpu_capability(), str(torch.get_num_threads())]
    return hashlib.sha256("\n".join([*parts, *code, *machine]).encode()).hexdigest()
