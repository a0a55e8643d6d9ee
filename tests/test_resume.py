"""States of a run: whole, or as good as none."""

from pathlib import Path

import pytest
import torch

from lib import resume

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
