"""What stages leave behind: JSON, CSV and safetensors, written whole or not at all, with checksums; never pickle."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib.errors import BrickyardError

if TYPE_CHECKING:
    import pandas
    import torch


def write_text(path: Path, text: str) -> None:
    """Writes `text` under a temporary name and renames it, so that `path` is never half written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


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
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in sorted(tensors.items())}
    checksum = tensor_checksum(plain)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    save_file(plain, partial, metadata={"sha256": checksum})
    partial.replace(path)
    return checksum


def read_tensors(path: Path) -> dict[str, "torch.Tensor"]:
    """Reads what `write_tensors` wrote and verifies its checksum (DVC does not notice a damaged cache object)."""
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


def tensor_checksum(tensors: Mapping[str, "torch.Tensor"]) -> str:
    """SHA-256 over names, types, shapes and bytes, in the order of the names."""
    import torch

    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def keep_only(folder: Path, names: Iterable[str]) -> None:
    """Removes from a fan-in's input what belongs to no listed item (`name/`, `name.json`, `name.curve.json`):
    entries that have been taken out of params.yaml.
    """
    listed = set(names)
    for child in sorted(folder.iterdir()) if folder.is_dir() else []:
        if child.name.split(".")[0] not in listed:
            shutil.rmtree(child) if child.is_dir() else child.unlink()
