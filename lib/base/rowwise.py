"""Safetensors written row by row, for tensors that memory does not hold."""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar

from . import files
from .artifacts import raw, title
from .errors import BrickyardError

if TYPE_CHECKING:
    import torch


@contextmanager
def written(path: Path, shapes: Mapping[str, "torch.Tensor"]) -> Iterator["TensorWriter"]:
    """Writes the file that `artifacts.write_tensors` would write, byte for byte; shapes and types are known before.

    with rowwise.written(path, {"x": torch.empty(n, d, device="meta")}) as writer: writer.append("x", rows), ...

    Memory holds no more than the rows of one call. Raises BrickyardError when a tensor got too many or too few rows;
    then, as after any other error, nothing is left behind.
    """
    with files.written(path) as file:
        writer = TensorWriter(path, shapes, file)
        yield writer
        writer.finish()


class TensorWriter:
    """What `written` gives; `checksum` is known at the end."""

    _NAMES: ClassVar[dict[str, str]] = {"int64": "I64", "float32": "F32", "bfloat16": "BF16"}

    def __init__(self, path: Path, shapes: Mapping[str, "torch.Tensor"], file: BinaryIO):
        """`shapes`: tensors of int64, float32 or bfloat16, of which only shape and type count (meta device)."""
        self.checksum, self._path, self._file = "0" * 64, path, file
        self._shapes = dict(sorted(shapes.items(), key=lambda item: (-item[1].element_size(), item[0])))
        self._start = len(self._header())
        starts = accumulate((tensor.nbytes for tensor in self._shapes.values()), initial=self._start)
        self._begin = dict(zip(self._shapes, starts, strict=False))
        self._position = dict(self._begin)

    def append(self, name: str, rows: "torch.Tensor") -> None:
        """Writes the next rows [b, ...] of a tensor [n, ...]; raises BrickyardError when it is full or they differ."""
        whole = self._shapes[name]
        if rows.shape[1:] != whole.shape[1:] or rows.dtype != whole.dtype or self._left(name) < rows.nbytes:
            raise BrickyardError(
                f"{self._path}: {name} is {whole.dtype} {tuple(whole.shape)}; rows {rows.dtype} {tuple(rows.shape)} "
                f"do not fit after {self._done(name)}"
            )
        left = raw(rows)
        while left:  # the system takes no more than 2 GiB at once
            count = os.pwrite(self._file.fileno(), left, self._position[name])
            left, self._position[name] = left[count:], self._position[name] + count

    def finish(self) -> None:
        """Checks that all rows are there; writes the header."""
        for name, whole in self._shapes.items():
            if self._left(name):
                raise BrickyardError(
                    f"{self._path}: {name} has {self._done(name)} rows; {whole.shape[0]} were promised"
                )
        digest = hashlib.sha256()
        for name, whole in sorted(self._shapes.items()):
            digest.update(title(name, whole))
            self._file.seek(self._begin[name])
            for start in range(0, whole.nbytes, 2**20):
                digest.update(self._file.read(min(2**20, whole.nbytes - start)))
        self.checksum = digest.hexdigest()
        self._file.seek(0)
        self._file.write(self._header())

    def _left(self, name: str) -> int:
        return self._begin[name] + self._shapes[name].nbytes - self._position[name]

    def _done(self, name: str) -> int:
        return (self._position[name] - self._begin[name]) // max(1, self._shapes[name][:1].nbytes)

    def _header(self) -> bytes:
        """The header of safetensors: its length in 8 bytes, then JSON, padded to a multiple of 8."""
        entries: dict[str, Any] = {"__metadata__": {"sha256": self.checksum}}
        start = 0
        for name, tensor in self._shapes.items():
            kind = self._NAMES[str(tensor.dtype).removeprefix("torch.")]
            offsets = [start, start + tensor.nbytes]
            entries[name] = {"dtype": kind, "shape": list(tensor.shape), "data_offsets": offsets}
            start += tensor.nbytes
        text = json.dumps(entries, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        return len(text).to_bytes(8, "little") + text
