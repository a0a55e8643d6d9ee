"""From an entry to a network with a card: trained where asked for, measured on its own classes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from lib.images.data import DataSet
from lib.images.sources import Images
from lib.params.training import Training
from lib.params.zoo import ZooModel
from lib.zoo import make

CPU = torch.device("cpu")
SETTINGS = Training(epochs=6, batch_size=16, learning_rate=1e-2, weight_decay=0.05, warmup=0.1, label_smoothing=0.0)
PLAIN: dict[str, Any] = {
    "factory": "data/models/plain_cnn.py:plain_cnn",
    "kwargs": {"widths": [[4], [6]]},
    "input_size": 16,
}


@pytest.fixture(scope="module")
def images() -> DataSet:
    """Three classes by brightness."""
    labels = np.arange(90) % 3
    noise = np.random.default_rng(0).integers(0, 60, (90, 16, 16, 3))
    pixels = (noise + 90 * labels[:, None, None, None]).astype(np.uint8)
    found = Images(labels, ("dark", "grey", "bright"), np.zeros(90, bool), lambda i: Image.fromarray(pixels[i]), "")
    return DataSet(found, np.arange(60), np.arange(60, 75), np.arange(75, 90), np.arange(6))


def _entry(**fields: Any) -> ZooModel:
    return ZooModel.model_validate({**PLAIN, "weights": "train", "licence": "MIT", **fields})


def test_training_here_leaves_a_curve_and_a_card(images: DataSet, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network, card, rows = make.make("net", _entry(classes="dark,bright"), images, SETTINGS, 0, CPU, tmp_path / "states")
    assert card.classes == ("dark", "bright")
    assert (card.name, card.weights, card.licence) == ("net", "train", "MIT")
    assert card.cost.params == sum(p.numel() for p in network.parameters())
    assert card.accuracy is not None
    assert card.accuracy["test"] == 100  # brightness is easily told
    assert len(rows) == 6
    assert rows[-1]["validation_accuracy"] == card.accuracy["validation"]
    assert [*(tmp_path / "states").glob("*.pt")]  # until its caller has saved the network


def test_a_checkpoint_with_classes_of_its_own_is_not_measured(images: DataSet, tmp_path: Path) -> None:
    made, _, _ = make.make("net", _entry(), images, SETTINGS.model_copy(update={"epochs": 1}), 0, CPU, tmp_path / "s")
    torch.save(made.state_dict(), tmp_path / "weights.pt")
    with_classes = {**PLAIN["kwargs"], "num_classes": 3}
    own = _entry(weights=str(tmp_path / "weights.pt"), classes="own", kwargs=with_classes)
    network, card, rows = make.make("net", own, images, SETTINGS, 0, CPU, tmp_path / "s")
    assert (card.classes, card.accuracy, rows) == (("0", "1", "2"), None, [])
    assert all(
        torch.equal(a, b) for a, b in zip(network.state_dict().values(), made.state_dict().values(), strict=True)
    )


def test_random_weights_come_of_seed_and_name_alone(images: DataSet, tmp_path: Path) -> None:
    def made(name: str, seed: int) -> dict[str, torch.Tensor]:
        network, card, rows = make.make(name, _entry(weights="random"), images, SETTINGS, seed, CPU, tmp_path / "s")
        assert (card.weights, card.classes, rows) == ("random", ("dark", "grey", "bright"), [])
        assert not network.training
        return network.state_dict()

    torch.manual_seed(7)
    before = torch.get_rng_state()
    first = made("one", 3)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(5)  # whatever else is drawn before
    again, other, reseeded = made("one", 3), made("other", 3), made("one", 4)
    assert all(torch.equal(value, again[key]) for key, value in first.items())
    for different in (other, reseeded):
        assert not torch.equal(first["0.0.weight"], different["0.0.weight"])
    assert not (tmp_path / "s").exists()  # nothing has been trained


def test_a_random_network_is_measured(images: DataSet, tmp_path: Path) -> None:
    network, card, _ = make.make("net", _entry(weights="random"), images, SETTINGS, 0, CPU, tmp_path / "s")
    pictures = torch.stack([card.input.transform()(images.images.image(int(i))) for i in images.test])
    with torch.no_grad():
        answers = network(pictures).argmax(1).numpy()
    assert card.accuracy is not None
    assert card.accuracy["test"] == pytest.approx(100 * np.mean(answers == images.images.labels[images.test]))
    assert card.accuracy["test"] < 70  # chance is a third, and a training leads to 100
