"""Pictures in files: found, classified, and named where they cannot be read."""

from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn

from lib import pictures
from lib.errors import BrickyardError
from lib.zoo import Input

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


def test_no_images_and_unreadable_ones_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(BrickyardError, match=r"no images \(\.bmp, "):
        next(pictures.classified(tmp_path, Colours(), EXPECTED, ("a", "b", "c")))
    (tmp_path / "x.jpg").write_bytes(b"not a picture")
    with pytest.raises(BrickyardError, match=r"x\.jpg is not a readable image"):
        next(pictures.classified(tmp_path, Colours(), EXPECTED, ("a", "b", "c")))
