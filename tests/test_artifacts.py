"""Artifacts: whole or not at all, same bytes, damage noticed."""

import errno
from pathlib import Path

import pytest
import torch

from lib import artifacts
from lib.errors import BrickyardError

TENSORS = {"b": torch.arange(6.0).reshape(2, 3), "a": torch.tensor([True, False]), "n": torch.tensor(7)}


def test_tensors_come_back_and_bytes_do_not_depend_on_order(tmp_path: Path) -> None:
    first = artifacts.write_tensors(tmp_path / "x.safetensors", TENSORS)
    second = artifacts.write_tensors(tmp_path / "y.safetensors", dict(reversed(TENSORS.items())))
    assert first == second
    assert (tmp_path / "x.safetensors").read_bytes() == (tmp_path / "y.safetensors").read_bytes()
    back = artifacts.read_tensors(tmp_path / "x.safetensors")
    assert all(torch.equal(back[name], tensor) for name, tensor in TENSORS.items())
    assert sorted(file.name for file in tmp_path.iterdir()) == ["x.safetensors", "y.safetensors"]


def test_a_full_disk_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "x.safetensors"
    artifacts.write_tensors(file, TENSORS)
    before = file.read_bytes()
    write = Path.write_bytes

    def full(path: Path, content: bytes) -> int:
        write(path, content[:10])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        artifacts.write_tensors(file, {"other": torch.ones(3)})
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("x.safetensors", before)]


def test_one_flipped_bit_is_noticed(tmp_path: Path) -> None:
    file = tmp_path / "x.safetensors"
    artifacts.write_tensors(file, TENSORS)
    damaged = bytearray(file.read_bytes())
    damaged[-1] ^= 1
    file.write_bytes(damaged)
    with pytest.raises(BrickyardError, match="does not match its checksum"):
        artifacts.read_tensors(file)
    file.write_bytes(damaged[:20])
    with pytest.raises(BrickyardError, match="is damaged"):
        artifacts.read_tensors(file)
    with pytest.raises(BrickyardError, match="not found"):
        artifacts.read_tensors(tmp_path / "no.safetensors")


def test_json_refuses_nan_and_names_a_damaged_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        artifacts.write_json(tmp_path / "x.json", float("nan"))
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(BrickyardError, match=r"x\.json is not valid JSON"):
        artifacts.read_json(tmp_path / "x.json")


def test_keep_only_removes_what_is_not_listed(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / f"{name}.json").touch()
        (tmp_path / f"{name}.curve.json").touch()
    artifacts.keep_only(tmp_path, ["a"])
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a", "a.curve.json", "a.json"]
    artifacts.keep_only(tmp_path / "missing", ["a"])


WRITTEN = {
    "x": torch.arange(12.0).reshape(6, 2),
    "a": torch.arange(30).reshape(6, 5).bfloat16(),
    "images": torch.tensor([5, 3, 1, 7, 6, 9]),
    "empty": torch.zeros(0, 3),
}


def _shapes() -> dict[str, torch.Tensor]:
    return {name: tensor.to("meta") for name, tensor in WRITTEN.items()}


def test_written_row_by_row_the_bytes_are_those_of_the_whole(tmp_path: Path) -> None:
    checksum = artifacts.write_tensors(tmp_path / "whole.safetensors", WRITTEN)
    with artifacts.TensorWriter(tmp_path / "rows" / "x.safetensors", _shapes()) as writer:
        for start, stop in ((0, 1), (1, 5), (5, 6)):
            for name, tensor in WRITTEN.items():
                writer.append(name, tensor[start:stop])
    assert writer.checksum == checksum == artifacts.stored_checksum(tmp_path / "whole.safetensors")
    assert (tmp_path / "rows/x.safetensors").read_bytes() == (tmp_path / "whole.safetensors").read_bytes()
    assert [file.name for file in (tmp_path / "rows").iterdir()] == ["x.safetensors"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (WRITTEN["x"][:5], "x has 5 rows; 6 were promised"),
        (torch.zeros(7, 2), "do not fit after 0"),
        (torch.zeros(6, 3), r"x is torch.float32 \(6, 2\); rows torch.float32 \(6, 3\)"),
        (torch.zeros(6, 2, dtype=torch.float64), "rows torch.float64"),
    ],
)
def test_rows_that_were_not_promised_are_refused_and_leave_nothing(
    rows: torch.Tensor, message: str, tmp_path: Path
) -> None:
    writer = artifacts.TensorWriter(tmp_path / "x.safetensors", {"x": torch.empty(6, 2, device="meta")})
    with pytest.raises(BrickyardError, match=message), writer:
        writer.append("x", rows)
    assert list(tmp_path.iterdir()) == []
