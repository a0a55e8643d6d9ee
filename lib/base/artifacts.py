"""What stages leave behind: JSON, CSV and safetensors, written whole or not at all, with checksums; never pickle.

A checksum shows damage, not who made a file.
"""

import csv
import hashlib
import io
import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import files
from .errors import BrickyardError

HEAL = "./run python -m commands.heal"
LIMIT = 2**28  # bytes of a text that is read

if TYPE_CHECKING:
    import pandas
    import torch
    from pydantic import BaseModel


def damaged(path: Path, why: str) -> BrickyardError:
    """What to say of a file that is not as it was written."""
    return BrickyardError(f"{path} is damaged: {why}: {HEAL}")


def write_text(path: Path, text: str) -> None:
    """Writes `text`, whole or not at all."""
    files.write(path, _encoded(path, text))


def write_json(path: Path, value: Mapping[str, Any], machine: Mapping[str, Any] | None = None) -> None:
    """Writes an object as JSON, its keys in the order given, the last one a SHA-256 over all before it (`seal`).

    One that `value` has from before is made anew. machine: what has computed it (`environment.machine`), for people who
    wonder about last bits; `read_json` leaves it out. NaN and infinities are refused.
    """
    plain = {key: entry for key, entry in value.items() if key not in ("seal", "machine")}
    if machine is not None:
        plain["machine"] = dict(machine)
    seal = hashlib.sha256(_encoded(path, _json(plain))).hexdigest()
    write_text(path, _json({**plain, "seal": seal}))


def read_json(path: Path, form: "type[BaseModel] | None" = None) -> dict[str, Any]:
    """The object that `write_json` wrote, without its checksum and the machine.

    form: what it must hold, among other things. Raises BrickyardError naming a file that is missing, is no JSON,
    carries no checksum, is not, byte for byte, what was written, or has another form.
    """
    content = _content(path)
    value = _parsed(path, content)
    if not isinstance(value, dict) or not isinstance(value.get("seal"), str):
        raise BrickyardError(
            f"{path} carries no checksum: it was made by an older version or by hand; dvc repro makes it anew"
        )
    seal = value.pop("seal")
    try:
        text = _json(value)
        whole = _json({**value, "seal": seal})
        same = whole.encode() == content and hashlib.sha256(text.encode()).hexdigest() == seal
    except (ValueError, RecursionError, MemoryError):  # NaN, a lone surrogate
        same = False
    if not same:
        raise damaged(path, "its content does not match its checksum")
    value.pop("machine", None)
    if form is not None:
        _check(path, value, form)
    return value


def _check(path: Path, value: Any, form: "type[BaseModel]") -> None:
    from pydantic import ValidationError

    try:
        form.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])[:100]
        raise BrickyardError(
            f"{path} is not what this code writes ({where}: {first['msg']}); dvc repro makes it anew"
        ) from None


def write_metrics(path: Path, value: Any) -> None:
    """Writes plain JSON for people, git and `dvc metrics diff`; NaN and infinities are refused.

    DVC holds the hash of such a file itself and runs the stage again when it differs.
    """
    write_text(path, _json(value))


def read_metrics(path: Path) -> Any:
    """What `write_metrics` wrote; raises BrickyardError naming a file that is missing or no JSON."""
    return _parsed(path, _content(path))


def write_csv(path: Path, table: "pandas.DataFrame") -> None:
    """Writes a table without its index, floats with 6 significant digits, and its SHA-256 beside it, in a file that
    `sha256sum -c` takes.
    """
    content = _encoded(path, table.to_csv(index=False, float_format="%.6g", lineterminator="\n"))
    files.write(path, content)
    files.write(_beside(path), _sum(path, content))


def read_csv(path: Path) -> list[dict[str, str]]:
    """The rows of a table, every value as text. Raises BrickyardError as `read_json` does."""
    content = _content(path)
    if _content(_beside(path)) != _sum(path, content):
        raise damaged(path, f"its content does not match {_beside(path).name}")
    return list(csv.DictReader(io.StringIO(content.decode(), newline="")))


def _json(value: Any) -> str:
    return json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def _parsed(path: Path, content: bytes) -> Any:
    try:
        return json.loads(content.decode())
    except (ValueError, RecursionError, MemoryError) as error:
        why = "nested too deeply" if isinstance(error, RecursionError) else str(error) or "too large"
        raise BrickyardError(f"{path} is not valid JSON: {why}: {HEAL}") from None


def _encoded(path: Path, text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise BrickyardError(f"{path}: {text[error.start : error.end]!r} is no text in UTF-8; rename it") from None


def _content(path: Path) -> bytes:
    try:
        if path.stat().st_size > LIMIT:
            raise BrickyardError(f"{path} is larger than {LIMIT // 2**20} MiB; it was not made here")
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise BrickyardError(f"{path} not found") from None
    except IsADirectoryError:
        raise BrickyardError(f"{path} is a folder; a file should be there") from None


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _sum(path: Path, content: bytes) -> bytes:
    return f"{hashlib.sha256(content).hexdigest()}  {path.name}\n".encode()


def write_tensors(path: Path, tensors: Mapping[str, "torch.Tensor"], durable: bool = True) -> str:
    """Writes safetensors with their checksum inside; returns the checksum. durable: see `files.write`."""
    from safetensors.torch import save

    plain = _apart({name: tensor.detach().cpu().contiguous() for name, tensor in sorted(tensors.items())})
    checksum = tensor_checksum(plain)
    files.write(path, save(plain, metadata={"sha256": checksum}), durable)
    return checksum


def read_tensors(path: Path) -> dict[str, "torch.Tensor"]:
    """Reads what was written here and verifies its checksum (DVC does not notice a damaged cache object).

    The tensors are mapped from the file: they take memory only where and while they are used.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise BrickyardError(f"{path} not found")
    path.open("rb").close()  # safetensors does not say which file may not be read
    try:
        with safe_open(path, framework="pt") as file:
            stated = (file.metadata() or {}).get("sha256")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, ValueError, AttributeError, TypeError, RuntimeError) as error:  # types torch has not, …
        raise damaged(path, str(error)) from None
    if stated != tensor_checksum(tensors):
        raise damaged(path, "its content does not match its checksum")
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
        digest.update(title(name, tensor))
        digest.update(raw(tensor))
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


def title(name: str, tensor: "torch.Tensor") -> bytes:
    """What stands before a tensor's bytes where they are hashed."""
    return f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode()


def raw(tensor: "torch.Tensor") -> memoryview:
    """The bytes of a tensor, as they are stored."""
    import torch

    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data


def keep_only(folder: Path, names: Iterable[str]) -> None:
    """Removes from a fan-in's input what belongs to no listed item (`name/`, `name.json`, `name.curve.json`):
    entries that have been taken out of params.yaml.
    """
    listed = set(names)
    for child in sorted(folder.iterdir()) if folder.is_dir() else []:
        if child.name.split(".")[0] not in listed:
            shutil.rmtree(child) if child.is_dir() and not child.is_symlink() else child.unlink()
