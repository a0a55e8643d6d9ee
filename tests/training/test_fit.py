"""The training loop: it learns, repeats itself bit for bit, freezes what it must, and stops at a loss of NaN."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lib.base import resume
from lib.base.errors import BrickyardError
from lib.base.resume import scratch
from lib.images.data import Loader
from lib.images.sources import Images
from lib.params.training import Augmentation, Training
from lib.training.fit import accuracy, fit
from tests import pico, unusual

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
        curve = fit(model, bright_or_dark, SETTINGS, seed=0, validate=lambda m: accuracy(m, bright_or_dark))
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


def test_what_its_author_has_frozen_stays(bright_or_dark: Loader) -> None:
    """In train mode, as the author's own loop would have it; so may a table of integers be a parameter."""
    model = pico.alive(pico.plain(2))
    model[0].requires_grad_(False)
    model.register_parameter("table", torch.nn.Parameter(torch.arange(3), requires_grad=False))
    before = {name: tensor.clone() for name, tensor in model.named_parameters()}
    fit(model, bright_or_dark, SETTINGS, seed=0)
    still = {name for name, tensor in model.named_parameters() if torch.equal(tensor, before[name])}
    assert still == {"table", "0.weight", "0.bias"}
    assert {name for name, own in model.named_parameters() if not own.requires_grad} == still
    with pytest.raises(BrickyardError, match="training: nothing learns: every parameter has requires_grad=False"):
        fit(model.requires_grad_(False), bright_or_dark, SETTINGS, seed=0)


def test_modules_that_are_to_stay_still_do(bright_or_dark: Loader) -> None:
    """Though all parameters around them learn."""
    model = torch.nn.Sequential(torch.nn.BatchNorm2d(3, affine=False), *pico.alive(pico.plain(2)))
    fit(model, bright_or_dark, SETTINGS, seed=0, still=[model[0]])
    assert not model[0].get_buffer("running_mean").any()
    fit(model, bright_or_dark, SETTINGS, seed=0, parameters=model.parameters())
    assert model[0].get_buffer("running_mean").all()


@pytest.mark.parametrize("name", ["auxiliary", "frozen", "weight_norm", "pruned", "drop_path"])
def test_networks_are_trained_as_they_are(name: str, bright_or_dark: Loader) -> None:
    """On the logits, beside auxiliary outputs; with statistics as frozen as the network wants; with an average."""
    model = unusual.build(name)
    before = {key: tensor.clone() for key, tensor in model.named_buffers()}
    settings = SETTINGS.model_copy(update={"epochs": 2, "ema": 0.9})
    curve = fit(model, bright_or_dark, settings, seed=0, validate=lambda m: accuracy(m, bright_or_dark))
    assert curve[1]["loss"] < curve[0]["loss"]
    assert not any(module.training for module in model.modules())
    changed = any(not torch.equal(tensor, before[key]) for key, tensor in model.named_buffers())
    assert changed == (name != "frozen")


def test_a_loss_that_is_not_finite_stops(bright_or_dark: Loader) -> None:
    model = pico.plain(2)
    torch.nn.init.constant_(list(model.parameters())[-2], float("nan"))
    with pytest.raises(BrickyardError, match=r"not finite at step 1 of epoch 1; lower learning_rate = 0\.\d+$"):
        fit(model, bright_or_dark, SETTINGS, seed=0)


def test_the_last_state_before_weights_that_are_not_finite_is_kept(bright_or_dark: Loader, tmp_path: Path) -> None:
    """A gradient without a number in the last step of the second epoch, whose loss is finite."""
    model, steps = pico.plain(2), []

    def spoilt(gradient: torch.Tensor) -> torch.Tensor:
        steps.append(1)
        return gradient * float("nan") if len(steps) == 2 * 4 else gradient

    list(model.parameters())[-1].register_hook(spoilt)
    with pytest.raises(BrickyardError, match=r"not finite after epoch 2; .* the state after epoch 1 is kept"):
        fit(model, bright_or_dark, SETTINGS, seed=0, scratch=tmp_path)
    (state,) = tmp_path.glob("*.pt")
    kept = resume.load(tmp_path, state.stem)
    assert kept is not None
    assert len(kept["curve"]) == 1
    assert all(torch.isfinite(tensor).all() for tensor in kept["model"].values())


class Killed(Exception):
    pass


def _killed_after(epoch: int) -> Callable[[torch.nn.Module], float]:
    seen: list[int] = []

    def validate(_: torch.nn.Module) -> float:
        seen.append(1)
        if len(seen) > epoch:
            raise Killed
        return 0.0

    return validate


EVERYTHING = SETTINGS.model_copy(
    update={
        "epochs": 4,
        "ema": 0.9,
        "augmentation": Augmentation(
            crop_padding=2, flip=True, randaugment="rand-m9-mstd0.5-inc1", mixup=0.2, cutmix=1.0
        ),
    }
)


def _dropout() -> torch.nn.Module:
    torch.manual_seed(0)
    *layers, last = pico.plain(2)
    return torch.nn.Sequential(*layers, torch.nn.Dropout(0.5), last)


@pytest.mark.parametrize("settings", [SETTINGS.model_copy(update={"epochs": 4}), EVERYTHING])
def test_a_killed_run_goes_on_to_the_same_result(bright_or_dark: Loader, settings: Training, tmp_path: Path) -> None:
    def fresh() -> Loader:
        """As a new process has it: nothing decoded yet."""
        return Loader(bright_or_dark.images, bright_or_dark.index, _tensor, 16)

    whole = _dropout()
    curve = fit(whole, fresh(), settings, 0, validate=lambda _: 0.0)
    with pytest.raises(Killed), scratch(tmp_path / "state") as folder:
        fit(_dropout(), fresh(), settings, 0, validate=_killed_after(2), scratch=folder)
    again, calls = _dropout(), []
    with scratch(tmp_path / "state") as folder:
        assert len(list(folder.iterdir())) == 1
        resumed = fit(again, fresh(), settings, 0, validate=lambda _: float(calls.append(1) or 0), scratch=folder)
    assert len(calls) == 2  # the third and fourth epoch
    assert resumed == curve
    assert all(torch.equal(a, b) for a, b in zip(_states(whole), _states(again), strict=True))
    assert not (tmp_path / "state").exists()


def test_another_seed_or_a_damaged_state_begins_anew(bright_or_dark: Loader, tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"epochs": 2})
    first = fit(_dropout(), bright_or_dark, settings, 0, scratch=tmp_path)
    other = fit(_dropout(), bright_or_dark, settings, 1, scratch=tmp_path)
    assert other != first
    assert len(list(tmp_path.iterdir())) == 2
    for file in tmp_path.iterdir():
        file.write_bytes(file.read_bytes()[:100])
    assert fit(_dropout(), bright_or_dark, settings, 0, scratch=tmp_path) == first


def test_a_moving_average_of_the_weights_is_the_result(bright_or_dark: Loader) -> None:
    steps = len(bright_or_dark) - 1  # the last batch holds a single image
    plain, averaged = pico.plain(2), pico.plain(2)
    averaged.load_state_dict(plain.state_dict())
    settings = SETTINGS.model_copy(update={"epochs": 1})
    last, last_averaged = list(plain.parameters())[-2], list(averaged.parameters())[-2]
    weights: list[torch.Tensor] = []  # before each step
    plain.register_forward_pre_hook(lambda m, _: weights.append(last.detach().clone()) if m.training else None)
    fit(plain, bright_or_dark, settings, 0)
    fit(averaged, bright_or_dark, settings.model_copy(update={"ema": 0.8}), 0)
    after = [*weights[1:], last.detach()]
    assert len(after) == steps
    expected = after[0]  # the first average is the first state
    for n, weight in enumerate(after[1:], start=1):
        decay = min(0.8, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * weight
    torch.testing.assert_close(last_averaged.detach(), expected)


def test_distillation_follows_the_teacher_instead_of_the_labels(bright_or_dark: Loader) -> None:
    class Contrary(torch.nn.Module):
        """Dark images are bright."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            bright = x.mean((1, 2, 3)) * 20 - 10
            return torch.stack([bright, -bright], 1)

    torch.manual_seed(0)
    student = pico.plain(2)
    settings = SETTINGS.model_copy(update={"distillation": 0.95, "temperature": 2.0})
    fit(student, bright_or_dark, settings, 0, teacher=Contrary())
    assert accuracy(student, bright_or_dark) < 5
    with pytest.raises(BrickyardError, match=r"distillation = 0\.95, but there is no teacher; set it to 0"):
        fit(student, bright_or_dark, settings, 0)


def test_micro_batches_add_up_to_the_batch(bright_or_dark: Loader) -> None:
    """Without BatchNorm, but for rounding, which AdamW magnifies; with it, each has statistics of its own."""

    def trained(accumulate: int, norms: bool) -> tuple[list[dict[str, float]], torch.Tensor]:
        torch.manual_seed(0)
        layers = [layer for layer in pico.plain(2) if norms or not isinstance(layer, torch.nn.BatchNorm2d)]
        model = torch.nn.Sequential(*layers)
        settings = SETTINGS.model_copy(update={"epochs": 2, "accumulate": accumulate})
        curve = fit(model, bright_or_dark, settings, 0)
        return curve, torch.cat([parameter.detach().flatten() for parameter in model.parameters()])

    (one, whole), (several, parts) = trained(1, norms=False), trained(3, norms=False)
    torch.testing.assert_close([row["loss"] for row in several], [row["loss"] for row in one])
    torch.testing.assert_close(parts, whole, rtol=2e-4, atol=2e-5)
    assert not torch.equal(parts, whole)
    assert not torch.allclose(trained(3, norms=True)[1], trained(1, norms=True)[1], rtol=2e-4, atol=2e-5)
    with pytest.raises(
        BrickyardError, match=r"net: batch_size = 16: should be at least 2 x accumulate = 9, which is 18"
    ):
        fit(pico.plain(2), bright_or_dark, SETTINGS.model_copy(update={"accumulate": 9}), 0, what="net")


def test_no_epochs_are_no_training(bright_or_dark: Loader) -> None:
    with pytest.raises(BrickyardError, match=r"net: epochs = 0; at least 1 to train it here"):
        fit(pico.plain(2), bright_or_dark, SETTINGS.model_copy(update={"epochs": 0}), 0, what="net")
