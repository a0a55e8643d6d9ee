"""python -m commands.check: everything that would be refused later, at once, and nothing written."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from commands import check
from lib.base.code import ROOT
from lib.base.errors import BrickyardError

PICO = (ROOT / "tests" / "stages" / "pico.yaml").read_text()


def told(text: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The lines that the command prints, given this params.yaml."""
    (folder / "params.yaml").write_text(text)
    monkeypatch.chdir(folder)
    before = {file: file.stat().st_mtime_ns for file in folder.rglob("*")}
    right = check.main()
    lines = capsys.readouterr().out.splitlines()
    assert right == lines[-1].startswith("ok: ")
    assert {file: file.stat().st_mtime_ns for file in folder.rglob("*")} == before
    return lines


def test_what_is_right_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert told(PICO, tmp_path, monkeypatch, capsys) == [
        "ok: 3 networks, 1797 images, 10 classes; whether a candidate meets the budgets is known after stage partition"
    ]


def test_all_mistakes_of_all_kinds_are_told_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save_file({"weight": torch.zeros(3, 2)}, tmp_path / "other.safetensors")
    text = PICO.replace("scaling: winning_score", "scaling: wining_score").replace("ranks: [1]", "ranks: [4]")
    text = text.replace("low, classes: 0-4}", "low, classes: 0-5}").replace("PicoResNet", "PicoResnet")
    low = "weights: train\n      classes: 0-4"
    text = text.replace(low, "weights: missing.pth\n      classes: 0-4")
    text = text.replace("weights: train\n      classes: 5-9", "weights: other.safetensors\n      classes: 5-9")
    lines = told(text, tmp_path, monkeypatch, capsys)
    expected = [
        "params.yaml: lego.scaling = 'wining_score': should be 'none', 'winning_score', 'temperature' or 'affine'",
        "params.yaml: finetune.ranks.0 = 4: should be at most assembly.pool = 3",
        "params.yaml: components.tasks.low.classes = '0-5': low does not know class '5'",
        "zoo.models.low: weights: no file missing.pth",
        "zoo.models.high: other.safetensors",
        "zoo.models.residual: factory tests.pico:PicoResnet: tests.pico has no function 'PicoResnet'",
    ]
    assert len(lines) == len(expected)
    assert all(line.startswith(start) for line, start in zip(lines, expected, strict=True)), lines


@pytest.mark.parametrize(
    ("right", "wrong", "message"),
    [
        ("probe_images: 64", "probe_images: 5000", "dataset.probe_images = 5000: there are"),
        ("num_blocks: 2", "num_blocks: 9", "params.yaml: partition.num_blocks = 9: "),
        ("macs: null}", "macs: null, latency: 5.0}", "data/latency.json"),
        ("report: {title: Pico}", "", "params.yaml: report is missing"),
    ],
)
def test_one_mistake_is_one_line(
    right: str,
    wrong: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert right in PICO
    lines = told(PICO.replace(right, wrong), tmp_path, monkeypatch, capsys)
    assert any(message in line for line in lines), lines


def test_without_a_file_it_says_where_to_stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BrickyardError, match="run from the root"):
        check.main()


def test_pretrained_weights_need_their_own_labels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    high = PICO[PICO.index("    high:") : PICO.index("    residual:")]
    for source in ("timm", "torchvision"):
        entry = f"    high:\n      {source}: resnet18\n      weights: pretrained\n      input_size: 32\n"
        lines = told(PICO.replace(high, entry), tmp_path, monkeypatch, capsys)
        assert any(
            line.startswith("zoo.models.high.classes = 'all': pretrained weights have 1000 labels of their own")
            for line in lines
        ), lines
