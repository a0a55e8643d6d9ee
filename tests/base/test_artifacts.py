"""Artifacts: whole or not at all, same bytes, damage noticed."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas
import pytest
import torch

from lib.base import artifacts, rowwise
from lib.base.errors import BrickyardError
from lib.dery import forms

TENSORS = {"b": torch.arange(6.0).reshape(2, 3), "a": torch.tensor([True, False]), "n": torch.tensor(7)}


def test_tensors_come_back_and_bytes_do_not_depend_on_order(tmp_path: Path) -> None:
    first = artifacts.write_tensors(tmp_path / "x.safetensors", TENSORS)
    second = artifacts.write_tensors(tmp_path / "y.safetensors", dict(reversed(TENSORS.items())))
    assert first == second
    assert (tmp_path / "x.safetensors").read_bytes() == (tmp_path / "y.safetensors").read_bytes()
    back = artifacts.read_tensors(tmp_path / "x.safetensors")
    assert all(torch.equal(back[name], tensor) for name, tensor in TENSORS.items())
    assert sorted(file.name for file in tmp_path.iterdir()) == ["x.safetensors", "y.safetensors"]


TABLE = pandas.DataFrame({"class": ["a, b", 'c "d"', "é"], "kept": [1, 2, 3], "share": [0.5, 1 / 3, 1e-9]})
VALUE = {"name": "é ☃", "numbers": [1, -2.5, 1e-9, None, True], "nested": {"b": {}, "a": []}}
KINDS: dict[str, tuple[Callable[[Path], object], Callable[[Path], Any]]] = {
    "x.json": (lambda file: artifacts.write_json(file, VALUE), artifacts.read_json),
    "x.csv": (lambda file: artifacts.write_csv(file, TABLE), artifacts.read_csv),
    "x.safetensors": (lambda file: artifacts.write_tensors(file, TENSORS), artifacts.read_tensors),
}


def test_texts_come_back(tmp_path: Path) -> None:
    for name, (write, _) in KINDS.items():
        write(tmp_path / name)
    assert artifacts.read_json(tmp_path / "x.json") == VALUE
    assert list(artifacts.read_json(tmp_path / "x.json")) == list(VALUE)
    assert [row["class"] for row in artifacts.read_csv(tmp_path / "x.csv")] == ["a, b", 'c "d"', "é"]
    assert list(pandas.read_csv(tmp_path / "x.csv")["kept"]) == [1, 2, 3]
    subprocess.run(["sha256sum", "--check", "--status", "x.csv.sha256"], cwd=tmp_path, check=True)
    before = (tmp_path / "x.json").read_bytes()
    artifacts.write_json(tmp_path / "x.json", json.loads(before))  # its seal is made anew, not sealed in turn
    assert (tmp_path / "x.json").read_bytes() == before


@pytest.mark.parametrize("name", [*KINDS, "x.csv.sha256"])
def test_every_flipped_bit_is_noticed(name: str, tmp_path: Path) -> None:
    """All bits of all bytes; never anything but one line that names the file and what heals it."""
    file, (write, read) = tmp_path / name, KINDS[name.removesuffix(".sha256")]
    write(tmp_path / name.removesuffix(".sha256"))
    content = file.read_bytes()
    for bit in range(8 * len(content)):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        file.write_bytes(damaged)
        with pytest.raises(
            BrickyardError, match=r"x\.\w+ (is damaged|is not valid JSON|carries no checksum).*: "
        ) as said:
            read(tmp_path / name.removesuffix(".sha256"))
        assert "\n" not in str(said.value)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("1.0", "1.00"),
        lambda text: text.replace("1.0", "10e-1"),
        lambda text: text.replace('"c"', '"\\u0063"'),
        lambda text: text.replace("1.0", "NaN"),
        lambda text: text.replace("1.0", "1e999"),
        lambda text: text.replace("1.0", "9" * 5000),
        lambda text: text.replace("1.0", "[" * 100_000 + "]" * 100_000),
        lambda text: text.replace("1.0", "[" * 900 + "]" * 900),
        lambda text: text.replace('"c"', '"\\ud800"'),
        lambda text: text.replace(' "a"', ' "a": 2,\n "a"'),
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text + " ",
        lambda text: "\ufeff" + text,
        lambda text: text + text,
        lambda text: text[: len(text) // 2],
        lambda text: "",
        lambda text: "[]",
        lambda text: "null",
        lambda text: text.replace("seal", "sealed"),
        lambda text: json.dumps({**json.loads(text), "seal": 5}),
        lambda text: json.dumps(json.loads(text)),
        lambda text: text.encode("utf-16"),
        lambda text: text.replace("c", "\xff").encode("latin-1"),
    ],
)
def test_json_that_is_not_byte_for_byte_as_it_was_written_is_one_line(
    change: Callable[[str], str | bytes], tmp_path: Path
) -> None:
    file = tmp_path / "x.json"
    artifacts.write_json(file, {"a": 1.0, "b": "c"})
    changed = change(file.read_text())
    file.write_bytes(changed if isinstance(changed, bytes) else changed.encode())
    with pytest.raises(BrickyardError, match=r"x\.json (is damaged|is not valid JSON|carries no checksum)") as said:
        artifacts.read_json(file)
    assert len(str(said.value)) < 300


@pytest.mark.parametrize(
    ("form", "value", "said"),
    [
        (forms.Nodes, {}, "nodes: Field required"),
        (forms.Nodes, {"nodes": [{"model": 1, "node": "a"}]}, "nodes.0.model: Input should be a valid string"),
        (forms.Chained, {"nodes": []}, "nodes: List should have at least 1 item"),
        (forms.Chained, {"nodes": [{"name": "a", "params": -1, "macs": 0}]}, "nodes.0.params: Input should be greater"),
    ],
)
def test_a_whole_file_of_another_form_is_one_line(form: Any, value: Any, said: str, tmp_path: Path) -> None:
    artifacts.write_json(tmp_path / "x.json", value)
    with pytest.raises(
        BrickyardError, match=rf"x\.json is not what this code writes \({said}.*; dvc repro makes it anew"
    ):
        artifacts.read_json(tmp_path / "x.json", form)


@pytest.mark.parametrize("name", KINDS)
def test_what_is_no_file_is_named(name: str, tmp_path: Path) -> None:
    _, read = KINDS[name]
    with pytest.raises(BrickyardError, match=rf"{name} not found"):
        read(tmp_path / name)
    (tmp_path / name).mkdir()
    with pytest.raises(BrickyardError, match=rf"{name} (is a folder|not found)"):
        read(tmp_path / name)


def test_metrics_are_plain(tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    artifacts.write_metrics(file, [{"a": 1}])
    assert json.loads(file.read_text()) == artifacts.read_metrics(file) == [{"a": 1}]
    file.write_text("[" * 100_000)
    with pytest.raises(BrickyardError, match=r"x\.json is not valid JSON: nested too deeply"):
        artifacts.read_metrics(file)


def test_numbers_and_names_that_no_file_can_hold_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        artifacts.write_json(tmp_path / "x.json", {"a": float("nan")})
    with pytest.raises(BrickyardError, match=r"x\.json: '\\udce9' is no text in UTF-8"):
        artifacts.write_json(tmp_path / "x.json", {"a": b"\xe9".decode(errors="surrogateescape")})
    assert list(tmp_path.iterdir()) == []


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
    with rowwise.written(tmp_path / "rows" / "x.safetensors", _shapes()) as writer:
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
    meta = {"x": torch.empty(6, 2, device="meta")}
    with pytest.raises(BrickyardError, match=message), rowwise.written(tmp_path / "x.safetensors", meta) as writer:
        writer.append("x", rows)
    assert list(tmp_path.iterdir()) == []
