"""States of a run: whole, or as good as none."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from lib.base import resume

STATE = {"weights": torch.arange(1000.0), "epoch": 3, "rows": [{"loss": 0.5}]}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    resume.save(tmp_path, "key", STATE)
    return tmp_path / "key.pt"


def test_a_state_comes_back_as_it_was(saved: Path) -> None:
    found = resume.load(saved.parent, "key")
    assert found is not None
    assert torch.equal(found.pop("weights"), STATE["weights"])
    assert found == {"epoch": 3, "rows": [{"loss": 0.5}]}
    assert resume.load(saved.parent, "other") is None
    assert [file.name for file in saved.parent.iterdir()] == ["key.pt"]


@pytest.mark.parametrize("damage", ["empty", "short", "cut", "garbage", "flipped", "longer"])
def test_a_damaged_state_is_as_good_as_none(saved: Path, damage: str) -> None:
    content = saved.read_bytes()
    middle = len(content) // 2
    saved.write_bytes(
        {
            "empty": b"",
            "short": content[:20],
            "cut": content[:middle],
            "garbage": bytes(range(256)) * 20,
            "flipped": content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
            "longer": content + b"0",
        }[damage]
    )
    assert resume.load(saved.parent, "key") is None


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory"), PermissionError()]
)
def test_an_error_of_the_machine_is_not_taken_for_damage(
    saved: Path, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(*((Path, "read_bytes") if isinstance(error, PermissionError) else (torch, "load")), failing)
    with pytest.raises(type(error)):
        resume.load(saved.parent, "key")


def test_a_failed_save_leaves_the_state_before(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object) -> None:
        raise OSError("No space left on device")

    with monkeypatch.context() as full:
        full.setattr(Path, "replace", failing)
        with pytest.raises(OSError, match="No space"):
            resume.save(saved.parent, "key", {"epoch": 4})
    found = resume.load(saved.parent, "key")
    assert found is not None
    assert found["epoch"] == 3
    assert [file.name for file in saved.parent.iterdir()] == ["key.pt"]


def _network(**change: Any) -> nn.Module:
    how: dict[str, Any] = {"activation": "relu", "norm": nn.BatchNorm2d(3), "middle": nn.ReLU(), **change}
    coder = nn.TransformerEncoderLayer(4, 2, 8, activation=how["activation"])
    return nn.Sequential(nn.Conv2d(3, 3, 1), how["norm"], how["middle"], coder)


@pytest.mark.parametrize(
    "change",
    [
        {"activation": "gelu"},
        {"middle": nn.GELU()},
        {"middle": nn.LeakyReLU(0.2)},
        {"norm": nn.BatchNorm2d(3, eps=1e-3)},
    ],
)
def test_another_network_with_the_same_weights_is_another_run(change: dict[str, Any]) -> None:
    """All have the same state_dict."""
    other = _network(**change)
    other.load_state_dict(_network().state_dict())
    assert resume.made_of(_network()) == resume.made_of(_network().eval())
    assert resume.made_of(other) != resume.made_of(_network())


def test_an_edited_file_of_the_network_is_another_run(tmp_path: Path) -> None:
    (tmp_path / "helper.py").write_text("scale = 2\n")
    (tmp_path / "net.py").write_text(
        "from torch import nn\nclass Net(nn.Module):\n    def forward(self, x):\n        return 2 * x\n"
    )
    spec = importlib.util.spec_from_file_location("net", tmp_path / "net.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found = {resume.made_of(module.Net())}
    (tmp_path / "helper.py").write_text("scale = 3\n")
    found.add(resume.made_of(module.Net()))
    (tmp_path / "net.py").write_text((tmp_path / "net.py").read_text().replace("2 * x", "3 * x"))
    found.add(resume.made_of(module.Net()))
    assert len(found) == 3


def test_another_version_of_a_package_is_another_run(monkeypatch: pytest.MonkeyPatch) -> None:
    before = resume.key_of({"a": 1})
    monkeypatch.setattr(resume, "versions", lambda _: {"torch": "0"})
    assert resume.key_of({"a": 1}) != before
