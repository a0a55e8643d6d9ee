"""Data: splits, classes, sources, loaders."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from lib.base.errors import BrickyardError
from lib.images import data, sources
from lib.params.dataset import Dataset

SCRATCH = Path(".scratch")

DIGITS: dict[str, Any] = {
    "source": "digits",
    "path": "data/images",
    "image_size": 32,
    "validation": 0.15,
    "test": 0.25,
    "probe_images": 100,
}


def _digits(**changes: Any) -> Dataset:
    return Dataset.model_validate({**DIGITS, **changes})


@pytest.fixture(scope="module")
def digits() -> data.DataSet:
    return data.split(sources.open_images(_digits(), SCRATCH), _digits(), seed=0)


def _write_folder(root: Path, counts: dict[str, int], seed: int = 0) -> Path:
    generator = np.random.default_rng(seed)
    for name, count in counts.items():
        (root / name).mkdir(parents=True)
        for i in range(count):
            Image.fromarray(generator.integers(0, 255, (10, 14, 3), np.uint8)).save(root / name / f"{i}.png")
    return root


def test_digits_are_those_of_scikit_learn(digits: data.DataSet) -> None:
    from sklearn.datasets import load_digits

    expected: Any = load_digits()
    assert digits.images.labels.tolist() == expected.target.tolist()
    assert digits.images.classes == tuple(map(str, expected.target_names))
    small = sources.open_images(_digits(image_size=8), SCRATCH)
    for i in range(0, len(small), 100):
        pixels = np.asarray(small.image(i))[..., 0]
        assert (pixels == np.round(expected.images[i] * (255 / 16))).all()


def test_splits_are_disjoint_complete_and_stratified(digits: data.DataSet) -> None:
    parts = [digits.train, digits.validation, digits.test]
    assert sorted(np.concatenate(parts).tolist()) == list(range(1797))
    shares = [np.bincount(digits.images.labels[part], minlength=10) / len(part) for part in parts]
    assert max(float(np.abs(share - shares[0]).max()) for share in shares) < 0.01
    assert [len(part) for part in parts] == [1077, 270, 450]


def test_the_probe_set_is_of_train_images_and_fixed_by_the_seed(digits: data.DataSet) -> None:
    assert len(set(digits.probe.tolist())) == 100
    assert np.isin(digits.probe, digits.train).all()
    again = data.split(digits.images, _digits(), seed=0)
    assert np.array_equal(digits.probe, again.probe)
    assert not np.array_equal(digits.probe, data.split(digits.images, _digits(), seed=1).probe)


def test_saved_splits_come_back(digits: data.DataSet, tmp_path: Path) -> None:
    data.save(tmp_path, digits, _digits())
    again = data.load(tmp_path, SCRATCH)
    assert all(np.array_equal(getattr(again, k), getattr(digits, k)) for k in ("train", "validation", "test", "probe"))
    assert again.images.image(3).tobytes() == digits.images.image(3).tobytes()
    assert again.images.image(3).size == (32, 32)


def test_an_image_folder_keeps_its_own_test_images(tmp_path: Path) -> None:
    _write_folder(tmp_path / "train", {"a": 6, "b": 8})
    _write_folder(tmp_path / "test", {"a": 2, "b": 3}, seed=1)
    source = _digits(source="folder", path=str(tmp_path), image_size=8, validation=0.3, probe_images=4)
    split = data.split(sources.open_images(source, SCRATCH), source, seed=0)
    assert split.classes == ("a", "b")
    assert split.test.tolist() == list(range(14, 19))
    assert len(split.validation) == 5
    assert split.images.image(0).size == (8, 8)
    data.save(tmp_path / "out", split, source)
    Image.new("RGB", (50, 50)).save(tmp_path / "train" / "a" / "0.png")
    with pytest.raises(BrickyardError, match="the images have changed"):
        data.load(tmp_path / "out", SCRATCH)


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    def opened(path: Path) -> sources.Images:
        return sources.open_images(_digits(source="folder", path=str(path)), SCRATCH)

    with pytest.raises(BrickyardError, match="there is no such folder or archive"):
        opened(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(BrickyardError, match="one sub-folder of images a class"):
        opened(tmp_path / "empty")
    (tmp_path / "broken.tar").write_bytes(b"no archive")
    with pytest.raises(BrickyardError, match=r"broken\.tar cannot be unpacked"):
        opened(tmp_path / "broken.tar")
    _write_folder(tmp_path / "few", {"a": 5, "b": 1})
    with pytest.raises(BrickyardError, match="class 'b' has 1 images; each needs at least 3"):
        opened(tmp_path / "few")
    _write_folder(tmp_path / "one" / "train", {"a": 5, "b": 5})
    _write_folder(tmp_path / "one" / "test", {"a": 5, "c": 5})
    with pytest.raises(BrickyardError, match="test: has no images of class 'b'"):
        opened(tmp_path / "one")
    with pytest.raises(BrickyardError, match=r"no data set of torchvision\.datasets has this name"):
        sources.open_images(_digits(source="torchvision", name="CIFAR11"), SCRATCH)


def test_too_many_probe_images(digits: data.DataSet) -> None:
    with pytest.raises(BrickyardError, match="there are 1077 train images"):
        data.split(digits.images, _digits(probe_images=2000), seed=0)


def _to_tensor(image: Any) -> torch.Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float()


@pytest.mark.parametrize("memory", ["2", "0"])
def test_a_loader_keeps_order_and_renumbers_labels(
    digits: data.DataSet, memory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BRICKYARD_MEMORY", memory)  # in memory, or decoded anew in every pass
    index = data.of_classes(digits.images, digits.train, [5, 7])
    loader = data.Loader(digits.images, index, _to_tensor, 32, classes=[5, 7])
    x, y = loader.all()
    assert len(loader) == -(-len(index) // 32)
    assert torch.equal(x[10], _to_tensor(digits.images.image(int(index[10]))))
    assert y.tolist() == [0 if label == 5 else 1 for label in digits.images.labels[index]]
    first, second, other = (torch.cat([labels for _, labels in loader.shuffled(0, epoch)]) for epoch in (0, 0, 1))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert first.sum() == y.sum()


def test_a_stratified_sample_has_equally_many_of_each_class(digits: data.DataSet) -> None:
    sample = data.stratified_sample(digits.images, digits.train, 50, seed=0)
    assert np.bincount(digits.images.labels[sample]).tolist() == [5] * 10
    assert np.isin(sample, digits.train).all()
