"""The training loop: it learns, repeats itself bit for bit, freezes what it must, and stops at a loss of NaN."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from PIL import Image

from lib.data import Loader
from lib.errors import BrickyardError
from lib.params.training import Training
from lib.sources import Images
from lib.training import accuracy, fit
from tests import pico

SETTINGS = Training(epochs=12, batch_size=16, learning_rate=1e-2, weight_decay=0.05, warmup=0.1, label_smoothing=0.0)


@pytest.fixture(scope="module")
def bright_or_dark() -> Loader:
    generator = np.random.default_rng(0)
    labels = np.arange(65) % 2
    pixels = (generator.integers(0, 120, (65, 16, 16, 3)) + 120 * labels[:, None, None, None]).astype(np.uint8)
    images = Images(labels, ("dark", "bright"), np.zeros(65, bool), lambda i: Image.fromarray(pixels[i]), "")
    return Loader(images, np.arange(65), _tensor, 16)


def _tensor(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255


def _states(model: torch.nn.Module) -> Iterator[torch.Tensor]:
    return iter([tensor.clone() for tensor in model.state_dict().values()])


def test_learns_and_repeats_itself(bright_or_dark: Loader) -> None:
    results = []
    for _ in range(2):
        torch.manual_seed(0)
        model = pico.plain(2)
        curve = fit(model, bright_or_dark, SETTINGS, seed=0, validate=lambda m=model: accuracy(m, bright_or_dark))
        results.append((curve, list(_states(model))))
    (curve, first), (again, second) = results
    assert curve == again
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert [row["epoch"] for row in curve] == list(range(1, 13))
    assert curve[-1]["loss"] < 0.5 * curve[0]["loss"]
    assert curve[-1]["validation_accuracy"] > 95


def test_what_does_not_learn_stays_bit_for_bit(bright_or_dark: Loader) -> None:
    model = pico.alive(pico.plain(2))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    fit(model, bright_or_dark, SETTINGS, seed=0, parameters=model[-1].parameters())
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    last = str(len(model) - 1)
    assert changed == {f"{last}.weight", f"{last}.bias"}
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_a_loss_that_is_not_finite_stops(bright_or_dark: Loader) -> None:
    model = pico.plain(2)
    torch.nn.init.constant_(list(model.parameters())[-2], float("nan"))
    with pytest.raises(BrickyardError, match="the loss is not finite in epoch 1; lower the learning_rate"):
        fit(model, bright_or_dark, SETTINGS, seed=0)
