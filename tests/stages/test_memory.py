"""What becomes of a stage whose batches are too large for the memory there is."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import stages
from lib.base import environment, halving
from lib.base.code import ROOT
from lib.base.errors import BrickyardError
from lib.images.data import Loader
from lib.images.sources import Images
from lib.params.training import Training
from lib.training.fit import fit

IMAGES = 21


def _tensor(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255


class Hungry(nn.Module):
    """Needs more memory than any machine has for more than `most` images at once."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most, self.head = most, nn.Linear(3, 2)
        self.asked = list[int]()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.asked.append(len(x))
        if len(x) > self.most:
            torch.empty(2**50)
        return self.head(x.mean((2, 3)))


@pytest.fixture(autouse=True)
def _own_limits(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(halving, "_passes", halving._Passes())
    monkeypatch.chdir(tmp_path)
    for name in ("versions.yaml", "params.yaml"):
        (tmp_path / name).write_text((ROOT / name).read_text())


@pytest.fixture
def noise() -> Loader:
    pixels = np.random.default_rng(0).integers(0, 255, (IMAGES, 8, 8, 3), np.uint8)
    images = Images(np.arange(IMAGES) % 2, ("a", "b"), np.zeros(IMAGES, bool), lambda i: Image.fromarray(pixels[i]), "")
    return Loader(images, np.arange(IMAGES), _tensor, 16)


@torch.no_grad()
def _run(network: Hungry, loader: Loader, monkeypatch: pytest.MonkeyPatch) -> torch.Tensor:
    """Of a stage that asks a network about all images."""
    found = list[torch.Tensor]()

    def main(out: Path) -> None:
        assert out == Path("x")
        found[:] = [network(x) for x, _ in loader]

    monkeypatch.setattr(sys, "argv", ["stage", "--out", "x"])
    stages.run(main)
    return torch.cat(found)


def test_a_stage_goes_on_with_half_a_batch(
    noise: Loader, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    network = Hungry(most=5)
    found = _run(network, noise, monkeypatch)
    assert network.asked == [16, 8, 4, 4, 4, 4, 4, 1]
    assert capsys.readouterr().err.splitlines() == [
        "test_memory: not enough memory for batches of 16 images; goes on with batches of 8",
        "test_memory: not enough memory for batches of 8 images; goes on with batches of 4",
    ]
    torch.testing.assert_close(found, network.head(noise.all()[0].mean((2, 3))))
    assert environment.machine()["batch"] == 4, "it may have changed last bits"
    assert [len(y) for _, y in noise.shuffled(0, 0)] == [16, 5], "the steps of a training are as they were"


def test_too_little_for_one_image_is_a_line(
    noise: Loader, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    network = Hungry(most=0)
    with pytest.raises(SystemExit) as ended:
        _run(network, noise, monkeypatch)
    assert network.asked == [16, 8, 4, 2, 1]
    assert ended.value.code == 1
    *_, last = capsys.readouterr().err.splitlines()
    assert last == (
        "test_memory: not enough memory for a single image; free some, or lower BRICKYARD_MEMORY, and run it again"
    )


def test_enough_is_never_halved(noise: Loader, monkeypatch: pytest.MonkeyPatch) -> None:
    network = Hungry(most=16)
    _run(network, noise, monkeypatch)
    assert network.asked == [16, 5]
    assert "batch" not in environment.machine()


@pytest.mark.parametrize(
    ("size", "mended"),
    [(8, "set zoo.models.a.accumulate = 2, or lower zoo.models.a.batch_size"), (3, "lower zoo.models.a.batch_size")],
)
def test_a_step_of_a_training_is_for_the_user_to_divide(noise: Loader, size: int, mended: str) -> None:
    noise.step_size = size
    settings = Training(epochs=1, batch_size=size, learning_rate=0.1, weight_decay=0.0, warmup=0.0, label_smoothing=0.0)
    with pytest.raises(BrickyardError) as said:
        fit(Hungry(most=1), noise, settings, seed=0, what="a", rate="zoo.models.a.learning_rate")
    assert str(said.value) == f"a: not enough memory for a step of {size} images; {mended}"
