"""Artifacts: whole or not at all, same bytes, damage noticed."""

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
