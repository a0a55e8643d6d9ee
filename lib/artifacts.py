"""What stages leave behind: JSON, CSV and safetensors, written whole or not at all, with checksums; never pickle."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from lib.errors import BrickyardError

if TYPE_CHECKING:
    import pandas
    import torch


def write_text(path: Path, text: str) -> None:
    """Writes `text`, whole or not at all."""
    _write(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Writes JSON, indented, keys in the order given; NaN and infinities are refused."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Reads JSON; a missing or damaged file is one line that names it."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BrickyardError(f"{path} not found") from None
    except ValueError as error:
        raise BrickyardError(f"{path} is not valid JSON: {error}") from None


def write_csv(path: Path, table: "pandas.DataFrame") -> None:
    """Writes a table without its index, floats with 6 significant digits."""
    write_text(path, table.to_csv(index=False, float_format="%.6g", lineterminator="\n"))


def write_tensors(path: Path, tensors: Mapping[str, "torch.Tensor"]) -> str:
    """Writes safetensors with their checksum inside; returns the checksum."""
    from safetensors.torch import save

    plain = _apart({name: tensor.detach().cpu().contiguous() for name, tensor in sorted(tensors.items())})
    checksum = tensor_checksum(plain)
    _write(path, save(plain, metadata={"sha256": checksum}))
    return checksum


def _write(path: Path, content: bytes) -> None:
    """Writes under a temporary name and renames it, so that `path` is never half written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        partial.write_bytes(content)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


class TensorWriter:
    """Writes the file that `write_tensors` would write, byte for byte, row by row: shapes and types are known before.

    with TensorWriter(path, {"x": torch.empty(n, d, device="meta")}) as writer: writer.append("x", rows), ...

    Memory holds no more than the rows of one call. `checksum` is known at the end. Raises BrickyardError when a tensor
    got too many or too few rows; then, as after any other error, nothing is left behind.
    """

    _NAMES: ClassVar[dict[str, str]] = {"int64": "I64", "float32": "F32", "bfloat16": "BF16"}

    def __init__(self, path: Path, shapes: Mapping[str, "torch.Tensor"]):
        """`shapes`: tensors of int64, float32 or bfloat16, of which only shape and type count (meta device)."""
        self.checksum, self._path = "0" * 64, path
        self._partial = path.with_name(f".{path.name}.{os.getpid()}")
        self._shapes = dict(sorted(shapes.items(), key=lambda item: (-item[1].element_size(), item[0])))
        self._start = len(self._header())
        starts = accumulate((tensor.nbytes for tensor in self._shapes.values()), initial=self._start)
        self._begin = dict(zip(self._shapes, starts, strict=False))
        self._position = dict(self._begin)

    def __enter__(self) -> Self:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._partial.open("w+b", buffering=0)
        return self

    def append(self, name: str, rows: "torch.Tensor") -> None:
        """Writes the next rows [b, ...] of a tensor [n, ...]; raises BrickyardError when it is full or they differ."""
        whole = self._shapes[name]
        if rows.shape[1:] != whole.shape[1:] or rows.dtype != whole.dtype or self._left(name) < rows.nbytes:
            raise BrickyardError(
                f"{self._path}: {name} is {whole.dtype} {tuple(whole.shape)}; rows {rows.dtype} {tuple(rows.shape)} "
                f"do not fit after {self._done(name)}"
            )
        self._position[name] += os.pwrite(self._file.fileno(), _bytes(rows), self._position[name])

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            self._file.close()
            self._partial.unlink(missing_ok=True)

    def _finish(self) -> None:
        for name, whole in self._shapes.items():
            if self._left(name):
                raise BrickyardError(
                    f"{self._path}: {name} has {self._done(name)} rows; {whole.shape[0]} were promised"
                )
        digest = hashlib.sha256()
        for name, whole in sorted(self._shapes.items()):
            digest.update(_title(name, whole))
            self._file.seek(self._begin[name])
            for start in range(0, whole.nbytes, 2**20):
                digest.update(self._file.read(min(2**20, whole.nbytes - start)))
        self.checksum = digest.hexdigest()
        self._file.seek(0)
        self._file.write(self._header())
        self._partial.replace(self._path)

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


def read_tensors(path: Path) -> dict[str, "torch.Tensor"]:
    """Reads what was written here and verifies its checksum (DVC does not notice a damaged cache object).

    The tensors are mapped from the file: they take memory only where and while they are used.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise BrickyardError(f"{path} not found")
    try:
        with safe_open(path, framework="pt") as file:
            stated = (file.metadata() or {}).get("sha256")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except SafetensorError as error:
        raise BrickyardError(f"{path} is damaged: {error}") from None
    if stated != tensor_checksum(tensors):
        raise BrickyardError(f"{path} is damaged: its content does not match its checksum; remove it and repro")
    return tensors


def stored_checksum(path: Path) -> str:
    """The checksum that a file of `write_tensors` states; `read_tensors` verifies it."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        return file.metadata()["sha256"]


def tensor_checksum(tensors: Mapping[str, "torch.Tensor"]) -> str:
    """SHA-256 over names, types, shapes and bytes, in the order of the names."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(_title(name, tensor))
        digest.update(_bytes(tensor))
    return digest.hexdigest()


def _apart(tensors: dict[str, "torch.Tensor"]) -> dict[str, "torch.Tensor"]:
    """Copies of those that share their memory with one before: safetensors takes no shared weights."""
    seen: set[int] = set()
    found = {}
    for name, tensor in tensors.items():
        storage = tensor.untyped_storage().data_ptr()
        found[name] = tensor.clone() if storage in seen else tensor
        seen.add(storage)
    return found


def _title(name: str, tensor: "torch.Tensor") -> bytes:
    return f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode()


def _bytes(tensor: "torch.Tensor") -> memoryview:
    import torch

    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data


def keep_only(folder: Path, names: Iterable[str]) -> None:
    """Removes from a fan-in's input what belongs to no listed item (`name/`, `name.json`, `name.curve.json`):
    entries that have been taken out of params.yaml.
    """
    listed = set(names)
    for child in sorted(folder.iterdir()) if folder.is_dir() else []:
        if child.name.split(".")[0] not in listed:
            shutil.rmtree(child) if child.is_dir() else child.unlink()
