"""Augmentation: each change depends on seed, epoch and image alone, and does what it says."""

import random
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from lib.images.data import Loader
from lib.images.sources import Images
from lib.params.training import Augmentation
from lib.training.augment import Augment, seeded
from lib.training.team import divide


def _loader(batch_size: int = 4) -> Loader:
    pixels = np.random.default_rng(0).integers(0, 256, (10, 12, 12, 3)).astype(np.uint8)
    images = Images(np.arange(10) % 3, ("a", "b", "c"), np.zeros(10, bool), lambda i: Image.fromarray(pixels[i]), "")
    return Loader(images, np.arange(10), lambda i: torch.from_numpy(np.array(i)).permute(2, 0, 1) / 255, batch_size)


def _augment(seed: int = 0, **settings: Any) -> Augment:
    return Augment(Augmentation.model_validate(settings), _loader(), 0.1, seed)


def test_nothing_is_changed_by_default() -> None:
    x, y = torch.rand(4, 3, 8, 8), torch.arange(4)
    augment = _augment()
    same, labels = augment.batch(x, y, 0, 0)
    assert torch.equal(same, x)
    assert torch.equal(labels, y)
    assert augment.image_change(0) is None


def test_crops_are_windows_of_the_padded_image_and_flips_turn_half() -> None:
    x = torch.rand(200, 3, 6, 6) + 1
    cropped, _ = _augment(crop_padding=2).batch(x, torch.zeros(200, dtype=torch.long), 0, 0)
    padded = torch.nn.functional.pad(x, (2,) * 4)
    offsets = set()
    for image, whole in zip(cropped, padded, strict=True):
        found = [(i, j) for i in range(5) for j in range(5) if torch.equal(whole[:, i : i + 6, j : j + 6], image)]
        assert len(found) == 1
        offsets |= set(found)
    assert len(offsets) == 25
    flipped, _ = _augment(flip=True).batch(x, torch.zeros(200, dtype=torch.long), 0, 0)
    turned = [torch.equal(a, b.flip(2)) for a, b in zip(flipped, x, strict=True)]
    assert all(t or torch.equal(a, b) for t, a, b in zip(turned, flipped, x, strict=True))
    assert 70 < sum(turned) < 130


def test_mixed_labels_are_shares() -> None:
    x, y = torch.rand(5, 3, 8, 8), torch.tensor([0, 1, 2, 0, 1])
    mixed, shares = _augment(mixup=1.0).batch(x, y, 0, 0)
    assert mixed.shape == (4, 3, 8, 8)  # pairs
    assert shares.shape == (4, 3)
    torch.testing.assert_close(shares.sum(1), torch.ones(4))
    weight = (mixed[0] - x[3]) / (x[0] - x[3])
    torch.testing.assert_close(weight, torch.full_like(weight, float(weight.mean())), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("settings", [{"crop_padding": 2, "flip": True}, {"mixup": 1.0}, {"cutmix": 1.0}])
def test_batches_depend_on_seed_epoch_and_step_alone(settings: dict[str, Any]) -> None:
    x, y = torch.rand(8, 3, 8, 8), torch.arange(8) % 3
    first = _augment(**settings).batch(x, y, 1, 2)[0]
    random.seed(5)
    np.random.seed(5)
    assert torch.equal(_augment(**settings).batch(x, y, 1, 2)[0], first)
    others = [
        _augment(1, **settings).batch(x, y, 1, 2),
        *(_augment(**settings).batch(x, y, *t) for t in ((2, 2), (1, 3))),
    ]
    assert not any(torch.equal(other, first) for other, _ in others)


@pytest.mark.parametrize("settings", [{"crop_padding": 2, "flip": True}, {"mixup": 1.0}, {"cutmix": 1.0}])
def test_part_of_a_batch_becomes_what_it_would_in_the_whole(settings: dict[str, Any]) -> None:
    x, y = torch.rand(11, 3, 8, 8), torch.arange(11) % 3
    augment = _augment(**settings)
    images, labels = augment.batch(x, y, 1, 2)
    assert len(labels) == augment.left(11)
    for rank in range(2):
        rows = divide(augment.left(11), 1, rank, 2).rows
        part, its = augment.batch(x[rows], y[rows], 1, 2, rows, 11)
        assert torch.equal(part, images[rows])
        assert torch.equal(its, labels[rows])


def test_rand_augment_depends_on_the_image_not_on_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    augment = _augment(randaugment="rand-m9-mstd0.5-inc1")
    small, large = _loader(2), _loader(5)

    def by_pixels(loader: Loader, epoch: int) -> torch.Tensor:
        x = torch.cat([x for x, _ in loader.shuffled(0, epoch, augment.image_change(epoch))])
        return x

    first = by_pixels(small, 0)
    assert torch.equal(by_pixels(large, 0), first)
    monkeypatch.setenv("BRICKYARD_WORKERS", "2")
    assert torch.equal(by_pixels(large, 0), first)
    plain = torch.cat([x for x, _ in small.shuffled(0, 0)])
    assert not torch.equal(first, plain)
    assert not torch.equal(by_pixels(small, 1), first)


def test_the_strongest_rand_augment_runs() -> None:
    change = _augment(randaugment="rand-m10-mstd0.5-inc1").image_change(0)
    assert change is not None
    image = Image.fromarray(np.full((12, 12, 3), 200, np.uint8))
    assert all(change(image, i).size == (12, 12) for i in range(300))


def test_seeded_leaves_the_generators_as_they_were() -> None:
    random.seed(1)
    np.random.seed(1)
    expected = random.random(), np.random.rand()
    random.seed(1)
    np.random.seed(1)
    with seeded(3, 4):
        inside = random.random(), np.random.rand()
    assert (random.random(), np.random.rand()) == expected
    with seeded(3, 4):
        assert (random.random(), np.random.rand()) == inside


@pytest.mark.parametrize(
    "notation", ["rand", "rand-m9-mstd0.5-inc1", "rand-n8-p0.3-mmax30-m30-tweights", "rand-mstd101-t3aw"]
)
def test_what_params_take_is_what_timm_takes(notation: str) -> None:
    change = _augment(randaugment=notation).image_change(0)
    assert change is not None
    assert change(Image.new("RGB", (12, 12)), 0).size == (12, 12)


@pytest.mark.parametrize(
    "notation",
    [
        "",
        "rand-",
        "auto-m9",
        "rand-m9.5",
        "rand-m",
        "rand-x9",
        "rand-tnone",
        "rand-m9-m8",
        "rand-n0",
        "rand-m9 ",
        "rand-m\u0663",
    ],
)
def test_what_timm_refuses_or_passes_over_is_refused(notation: str) -> None:
    with pytest.raises(ValueError, match="randaugment"):
        Augmentation(randaugment=notation)
