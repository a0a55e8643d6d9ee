"""A user's model files: several of them, hashed together, found and run apart from everyone else's."""

import sys
from pathlib import Path

import pytest
import torch

from lib.base.errors import BrickyardError
from lib.zoo.architecture import Architecture, Factory

NET = """
from __future__ import annotations
from dataclasses import dataclass
from torch import nn
{imports}

@dataclass
class Config:
    width: int = 4

def make(num_classes):
    return nn.Sequential({block}(3, Config().width), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, num_classes))
"""
BLOCK = "from torch import nn\ndef block(i, o): return nn.Conv2d(i, o, {side})\n"
IMPORTS = {
    "alone": ("", "(lambda i, o: nn.Conv2d(i, o, 3))"),
    "a neighbour": ("from blocks import block", "block"),
    "a neighbour by name": ("import blocks", "blocks.block"),
    "relative": ("from .blocks import block", "block"),
    "relative, the module": ("from . import blocks", "blocks.block"),
    "a folder": ("from parts.blocks import block", "block"),
    "a folder, relative": ("from .parts import blocks", "blocks.block"),
    "through another": ("from through import block", "block"),
}


def _write(folder: Path, imports: str, side: int = 3, name: str = "net.py") -> str:
    (folder / "parts").mkdir(parents=True)
    text, block = IMPORTS[imports]
    (folder / name).write_text(NET.format(imports=text, block=block))
    for file in ("blocks.py", "parts/blocks.py"):
        (folder / file).write_text(BLOCK.format(side=side))
    (folder / "through.py").write_text("def block(i, o):\n    from blocks import block\n    return block(i, o)\n")
    return f"{folder / name}:make"


def _built(reference: str, sha256: str | None = None) -> torch.nn.Module:
    return Architecture(None, None, reference, sha256, {}, 2).build(trust=True)


@pytest.mark.parametrize("imports", IMPORTS)
def test_files_beside_a_model_file(tmp_path: Path, imports: str) -> None:
    before, path = set(sys.modules), list(sys.path)
    reference = _write(tmp_path / "mine", imports)
    sha256 = Factory.find(reference, trust=True).sha256
    assert _built(reference, sha256)(torch.zeros(1, 3, 8, 8)).shape == (1, 2)
    assert sys.path == path
    assert {name.split(".")[0] for name in set(sys.modules) - before if "usercode_" not in name} <= {"torch", "timm"}
    changed = tmp_path / "mine" / ("net.py" if imports == "alone" else "blocks.py")
    if "folder" in imports:
        changed = tmp_path / "mine/parts/blocks.py"
    changed.write_text(changed.read_text() + "# edited\n")
    with pytest.raises(BrickyardError, match="has changed since the network was made"):
        _built(reference, sha256)


@pytest.mark.parametrize("imports", ["a neighbour", "relative"])
def test_neighbours_of_one_name_in_two_folders_stay_apart(tmp_path: Path, imports: str) -> None:
    one, other = (_write(tmp_path / name, imports, side) for name, side in (("one", 1), ("other", 5)))
    for _ in range(2):
        assert [tuple(next(_built(name).parameters()).shape[2:]) for name in (one, other)] == [(1, 1), (5, 5)]


def test_a_stem_that_a_package_has(tmp_path: Path) -> None:
    reference = _write(tmp_path / "mine", "a neighbour", name="timm.py")
    import timm

    assert _built(reference)(torch.zeros(1, 3, 8, 8)).shape == (1, 2)
    assert sys.modules["timm"] is timm


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("import nowhere_to_be_found", "ModuleNotFoundError: No module named 'nowhere_to_be_found'"),
        ("from .. import x", "a relative import leaves"),
        ("from .nothing import x", "ModuleNotFoundError: nothing is imported in a way"),
        ("import importlib; importlib.import_module('blocks')", "No module named 'blocks'"),
        ("def make(:", "SyntaxError: "),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("def make(num_classes):\n    raise KeyError('two\\nlines')", "KeyError: "),
        ("make = 3", "has no function 'make'"),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path: Path, text: str, line: str) -> None:
    _write(tmp_path / "mine", "alone")
    (tmp_path / "mine" / "net.py").write_text(text)
    with pytest.raises(BrickyardError, match=line) as caught:
        _built(f"{tmp_path / 'mine' / 'net.py'}:make")
    assert "net.py" in str(caught.value)
    assert not [name for name in sys.modules if name.startswith("usercode_") and name.endswith(".nothing")]
