"""Pictures in files: found, classified, and named where they cannot be read."""

import io
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from torch import nn

from commands import predict
from lib.base.errors import BrickyardError
from lib.network import pictures
from lib.zoo.card import Input

EXPECTED = Input(8, (0.0,) * 3, (1.0,) * 3, "bicubic", 1.0)


class Colours(nn.Module):
    """Logits: ten times the means of red, green and blue."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[b, 3, h, w] -> [b, 3]"""
        return 10 * x.mean((2, 3))


def test_every_image_below_the_folder_in_order(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    Image.new("RGB", (20, 30), (0, 0, 255)).save(tmp_path / "b.png")
    Image.new("L", (8, 8), 255).save(tmp_path / "inner" / "grey.PNG")
    Image.new("RGB", (9, 8), (255, 0, 0)).save(tmp_path / "a.bmp")
    (tmp_path / "notes.txt").write_text("no image")
    found = list(pictures.classified(tmp_path, Colours(), EXPECTED, ("red", "green", "blue")))
    assert [(file.name, name) for file, name, _ in found] == [("a.bmp", "red"), ("b.png", "blue"), ("grey.PNG", "red")]
    sure = 100 / (1 + 2 * torch.exp(torch.tensor(-10.0)).item())
    assert [percent for _, _, percent in found] == pytest.approx([sure, sure, 100 / 3], rel=1e-4)


CLASSES = ("red", "green", "blue")


def test_of_a_strip_the_middle_counts(tmp_path: Path) -> None:
    strip = Image.new("RGB", (50_001, 1), "red")
    strip.paste("blue", (24_995, 0, 25_006, 1))
    strip.save(tmp_path / "wide.png")
    strip.rotate(90, expand=True).save(tmp_path / "high.png")
    large = Input(224, (0.0,) * 3, (1.0,) * 3, "bicubic", 1.0)  # of all of it, 2.5 thousand million pixels a picture
    found = list(pictures.classified(tmp_path, Colours(), large, CLASSES))
    assert [(file.name, name) for file, name, _ in found] == [("high.png", "blue"), ("wide.png", "blue")]


def test_what_is_hidden_or_no_file_does_not_count(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8), (0, 255, 0)).save(tmp_path / "x.png")
    for name in ("._x.png", ".x.png"):
        (tmp_path / name).write_bytes(b"\0\5\x16\7")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "again").symlink_to(tmp_path)
    assert [file.name for file, _, _ in pictures.classified(tmp_path, Colours(), EXPECTED, CLASSES)] == ["x.png"]


def test_an_unreadable_image_is_named_and_the_others_classified(tmp_path: Path) -> None:
    for name in "abcd":
        Image.new("RGB", (8, 8), (0, 0, 255)).save(tmp_path / f"{name}.png")
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:40])
    (tmp_path / "c.png").write_bytes(b"not a picture")
    told: list[BrickyardError] = []
    found = []
    with pytest.raises(BrickyardError, match=r"^2 of 4 images not classified: .*a\.png is not a readable image"):
        found += list(_kept(found, pictures.classified(tmp_path, Colours(), EXPECTED, CLASSES, told.append)))
    assert [(file.name, name) for file, name, _ in found] == [("b.png", "blue"), ("d.png", "blue")]
    assert [error.args[0].split(" is not")[0] for error in told] == [str(tmp_path / f"{name}.png") for name in "ac"]


def _kept(into: list, items: Iterator) -> Iterator:
    """Puts items into a list as they come: what comes before an error is not lost."""
    for item in items:
        into.append(item)
    return iter(())


def test_no_images_and_no_folder_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "x.txt").touch()
    for path, message in (
        (tmp_path, r"no images \(\.avif, \.bmp, "),
        (tmp_path / "x.txt", r"x\.txt is not a folder; name one that holds images"),
        (tmp_path / "nowhere", "nowhere is not a folder"),
    ):
        with pytest.raises(BrickyardError, match=message):
            next(pictures.classified(path, Colours(), EXPECTED, CLASSES))


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_a_line_stays_a_line_in_every_locale(encoding: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """commands.predict, with a network that stands for any: three columns, whatever files are called."""
    for name in ("a\tb\nc.png", "Gar\udce7on.png", "\u51ac.png"):
        Image.new("RGB", (8, 8), (0, 0, 255)).save(tmp_path / name)
    (tmp_path / "cut.png").write_bytes(b"no picture")
    monkeypatch.setattr(predict, "load", lambda *_: (Colours(), SimpleNamespace(input=EXPECTED, classes=CLASSES)))
    streams = [io.TextIOWrapper(io.BytesIO(), encoding=encoding) for _ in range(2)]
    monkeypatch.setattr(sys, "stdout", streams[0])
    monkeypatch.setattr(sys, "stderr", streams[1])
    with pytest.raises(BrickyardError, match=r"^1 of 4 images not classified"):
        predict.main(Path(), tmp_path)
    out, err = (stream.buffer.getvalue().decode() for stream in streams if not stream.flush())
    winter = {"utf-8": "\u51ac", "ascii": r"\u51ac"}[encoding]
    assert [line.split("\t") for line in out.splitlines()] == [
        [rf'"{tmp_path}/Gar\udce7on.png"', "blue", "100.0"],
        [rf'"{tmp_path}/a\tb\nc.png"', "blue", "100.0"],
        [f"{tmp_path}/{winter}.png", "blue", "100.0"],
    ]
    assert err == f"predict: {tmp_path}/cut.png is not a readable image: no format that is known here\n"
