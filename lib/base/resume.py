"""Training that goes on where it was killed: the state after each epoch, in a folder that lives until the end."""

import hashlib
import io
import json
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from . import files, processes
from .code import installed as versions

DIGEST = hashlib.sha256().digest_size  # bytes
PACKAGES = ("torch", "torchvision", "timm", "numpy", "pillow")  # what training and repairs are computed with


@contextmanager
def scratch(folder: Path) -> Iterator[Path]:
    """A folder for states that is removed when what happens inside ends well, and kept when it is killed or fails.
    Of several processes the first removes it.
    """
    yield folder
    if processes.rank() == 0:
        shutil.rmtree(folder, ignore_errors=True)


def made_of(model: nn.Module) -> str:
    """SHA-256 over what a network computes with, but for its weights: its modules' classes and plain attributes, and
    the files that define them with those beside them, unless they are of installed packages.
    """
    installed = Path(torch.__file__).parents[1]
    described, sources = hashlib.sha256(), set[Path]()
    for path, module in model.named_modules():
        plain = {name: value for name, value in vars(module).items() if name[0] != "_" and name != "training"}
        kind = f"{type(module).__module__}.{type(module).__qualname__}"
        described.update(f"{path} {kind} {without_addresses(sorted(plain.items()))}\n".encode())
        for base in type(module).__mro__:
            code = getattr(vars(base).get("forward"), "__code__", None)
            if code is not None and installed not in Path(code.co_filename).parents:
                sources.add(Path(code.co_filename))
    for file in sorted({file for source in sources for file in source.parent.glob("*.py")}):
        described.update(f"{file.name} {hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return described.hexdigest()


def without_addresses(value: object) -> str:
    """A text that stands for `value` in every process alike."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


def key_of(parts: Mapping[str, Any]) -> str:
    """SHA-256 of what a run depends on, as JSON, and of the packages that make its bits."""
    whole = {"parts": parts, "packages": versions(PACKAGES)}
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()


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
