"""Sources: folders and archives as people have them, torchvision's data sets, checksums over content."""

import json
import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lib.base.errors import BrickyardError
from lib.images import data, fingerprint, sources
from lib.params.dataset import Dataset

SCRATCH = Path(".scratch")


@pytest.fixture(autouse=True)
def _own_scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "SCRATCH", tmp_path / "scratch")


def _source(path: Path, **changes: Any) -> Dataset:
    wanted = {"source": "folder", "path": str(path), "image_size": 8, "validation": 0.2, "test": 0.25}
    return Dataset.model_validate({**wanted, "probe_images": 2, **changes})


def _pictures(root: Path, counts: dict[str, int], suffix: str = "png", seed: int = 0) -> Path:
    """Noise, `counts` of it a class."""
    generator = np.random.default_rng(seed)
    for name, count in counts.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            image = Image.fromarray(generator.integers(0, 256, (10, 14, 3), np.uint8))
            image.save(root / name / f"{i}.{suffix}", format=None if suffix in ("png", "bmp", "webp") else "png")
    return root


def _divided(path: Path, **changes: Any) -> data.DataSet:
    source = _source(path, **changes)
    return data.split(sources.open_images(source, SCRATCH), source, seed=0)


def _counts(divided: data.DataSet) -> dict[str, list[int]]:
    labels = divided.images.labels
    return {
        part: np.bincount(labels[getattr(divided, part)], minlength=len(divided.images.classes)).tolist()
        for part in ("train", "validation", "test")
    }


def _as_folder(root: Path, made: Path) -> Path:
    return shutil.copytree(made, root / "copy")


def _as_tar(root: Path, made: Path) -> Path:
    with tarfile.open(root / "pets.tar.gz", "w:gz") as archive:
        archive.add(made, "pets")
    return root / "pets.tar.gz"


def _as_zip(root: Path, made: Path) -> Path:
    return Path(shutil.make_archive(str(root / "pets"), "zip", made.parent, made.name))


def _as_links(root: Path, made: Path) -> Path:
    (root / "links").mkdir()
    for child in made.iterdir():
        (root / "links" / child.name).symlink_to(child)
    return root / "links"


@pytest.mark.parametrize("kept", [_as_folder, _as_tar, _as_zip, _as_links])
@pytest.mark.parametrize("parts", [[""], ["train", "val", "test"]])
def test_the_same_images_are_the_same_wherever_they_are_kept(
    parts: list[str], kept: Callable[[Path, Path], Path], tmp_path: Path
) -> None:
    made = tmp_path / "made"
    for i, part in enumerate(parts):
        _pictures(made / part, {"a": 4, "b": 5}, seed=i)
    direct, other = (sources.open_images(_source(path), SCRATCH) for path in (made, kept(tmp_path, made)))
    assert other.checksum == direct.checksum
    assert other.labels.tolist() == direct.labels.tolist() == ([0] * 4 + [1] * 5) * len(parts)
    assert other.image(2).tobytes() == direct.image(2).tobytes()


def test_archives_of_the_parts(tmp_path: Path) -> None:
    for i, part in enumerate(("train", "test")):
        _pictures(tmp_path / "made" / part, {"a": 4, "b": 5}, seed=i)
    (tmp_path / "set").mkdir()
    shutil.make_archive(str(tmp_path / "set" / "test"), "xztar", tmp_path / "made" / "test")
    shutil.make_archive(str(tmp_path / "set" / "train"), "zip", tmp_path / "made", "train")
    packed, direct = (sources.open_images(_source(tmp_path / name), SCRATCH) for name in ("set", "made"))
    assert packed.checksum == direct.checksum
    assert packed.held_out.tolist() == [False] * 9 + [True] * 9


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        (
            {"train": {"a": 10, "b": 20}, "val": {"a": 3, "b": 4}, "test": {"a": 2, "b": 2}},
            {"train": [10, 20], "validation": [3, 4], "test": [2, 2]},
        ),
        (
            {"train": {"a": 8, "b": 16}, "valid": {"a": 3, "b": 4}},
            {"train": [6, 12], "validation": [3, 4], "test": [2, 4]},
        ),
        (
            {"train": {"a": 10, "b": 20}, "test": {"a": 3, "b": 4}},
            {"train": [8, 16], "validation": [2, 4], "test": [3, 4]},
        ),
        ({"": {"a": 20, "b": 40}}, {"train": [11, 22], "validation": [4, 8], "test": [5, 10]}),
        ({"": {"a": 3, "b": 40}}, {"train": [1, 22], "validation": [1, 8], "test": [1, 10]}),
        ({"": {f"c{i:02}": 5 for i in range(20)}}, {"train": [3] * 20, "validation": [1] * 20, "test": [1] * 20}),
        ({"": {f"c{i:02}": 3 for i in range(10)}}, {"train": [1] * 10, "validation": [1] * 10, "test": [1] * 10}),
        (
            {"train": {"a": 2, "b": 2}, "test": {"a": 1, "b": 1}},
            {"train": [1, 1], "validation": [1, 1], "test": [1, 1]},
        ),
        (
            {"train": {"a": 1, "b": 9}, "val": {"a": 1, "b": 9}, "test": {"a": 1, "b": 1}},
            {"train": [1, 9], "validation": [1, 9], "test": [1, 1]},
        ),
    ],
)
def test_every_class_has_images_in_every_part(
    parts: dict[str, dict[str, int]], expected: dict[str, list[int]], tmp_path: Path
) -> None:
    for i, (part, counts) in enumerate(parts.items()):
        _pictures(tmp_path / part, counts, seed=i)
    divided = _divided(tmp_path)
    found = _counts(divided)
    assert all(
        abs(a - b) <= 1 and a > 0 for part in expected for a, b in zip(found[part], expected[part], strict=True)
    ), found
    together = np.sort(np.concatenate([divided.train, divided.validation, divided.test]))
    assert together.tolist() == list(range(len(divided.images)))


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"": {"a": 9, "b": 2}}, "class 'b' has 2 images; each needs at least 3, one each for train, validation, test"),
        (
            {"train": {"a": 9, "b": 1, "c": 1}, "test": {"a": 9, "b": 9, "c": 9}},
            r"class 'b' has 1 images to divide beside those for test; each needs at least 2, one each for train, "
            r"validation \(and 1 more classes have too few\)",
        ),
        ({"train": {"a": 5, "b": 5}, "test": {"a": 5, "c": 5}}, "test: has no images of class 'b'"),
        ({"train": {"a": 5}, "val": {"a": 5, "c": 5}}, "train: has no images of class 'c'"),
        ({"train": {"a": 5, "b": 5}, "test": {"a": 5, "b": 0}}, "test/b has no images; fill the folder or remove it"),
        ({"": {"only": 9}}, "has one class only, 'only'; at least two are needed"),
    ],
)
def test_too_few_images_are_named(parts: dict[str, dict[str, int]], message: str, tmp_path: Path) -> None:
    for part, counts in parts.items():
        _pictures(tmp_path / part, counts)
    with pytest.raises(BrickyardError, match=message):
        sources.open_images(_source(tmp_path), SCRATCH)


def test_images_exchanged_in_place_at_equal_size_make_the_card_anew(tmp_path: Path) -> None:
    root = _pictures(tmp_path / "set", {"cat": 6, "dog": 6}, "bmp")
    source = _source(root)
    data.save(tmp_path / "out", _divided(root), source)
    card = (tmp_path / "out" / "card.json").read_bytes()
    data.save(tmp_path / "out", _divided(root), source)
    assert (tmp_path / "out" / "card.json").read_bytes() == card
    for i in range(6):
        cat, dog = root / "cat" / f"{i}.bmp", root / "dog" / f"{i}.bmp"
        status, before, after = cat.stat(), cat.read_bytes(), dog.read_bytes()
        assert len(before) == len(after)
        cat.write_bytes(after)
        dog.write_bytes(before)
        os.utime(cat, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(BrickyardError, match="the images have changed since they were split; dvc repro dataset"):
        data.load(tmp_path / "out", SCRATCH)
    data.save(tmp_path / "out", _divided(root), source)
    assert (tmp_path / "out" / "card.json").read_bytes() != card
    data.load(tmp_path / "out", SCRATCH)


def test_the_checksum_covers_parts_and_names(tmp_path: Path) -> None:
    root = _pictures(tmp_path, {"train/a": 5, "train/b": 5, "test/a": 5, "test/b": 5})
    found = {sources.open_images(_source(root), SCRATCH).checksum}
    for old, new in (("test", "val"), ("train/a/0.png", "train/a/9.png"), ("train/a/1.png", "train/b/8.png")):
        (root / old).rename(root / new)
        found.add(sources.open_images(_source(root), SCRATCH).checksum)
    assert len(found) == 4


def test_the_checksum_covers_the_size(tmp_path: Path) -> None:
    """Else what has been computed from smaller images would be found again for larger ones."""
    root = _pictures(tmp_path / "set", {"a": 5, "b": 5})
    small, large = (_source(root).model_copy(update={"image_size": size}) for size in (8, 16))
    found = [sources.open_images(one, SCRATCH).checksum for one in (small, large, small)]
    assert found[0] == found[2] != found[1]


def test_images_are_looked_at_once_before_anything_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = _pictures(tmp_path / "set", {"a": 4, "b": 4})
    (root / "b" / "2.png").write_bytes((root / "b" / "2.png").read_bytes()[:200])
    (root / "b" / "3.png").write_bytes(b"")
    with pytest.raises(BrickyardError, match=r"b/2\.png is not a readable image: .*truncated.* \(and 1 more files\)"):
        sources.open_images(_source(root), SCRATCH)
    for i in (2, 3):
        shutil.copy(root / "b" / "0.png", root / "b" / f"{i}.png")
    later = fingerprint.time.time_ns() + 60 * 10**9
    monkeypatch.setattr(fingerprint.time, "time_ns", lambda: later)
    first = sources.open_images(_source(root), SCRATCH)
    monkeypatch.setattr(sources.picture, "opened", None)  # nothing is decoded any more
    assert sources.open_images(_source(root), SCRATCH).checksum == first.checksum


def test_what_is_left_out_is_said(tmp_path: Path) -> None:
    root = _pictures(tmp_path / "set", {"train/a": 5, "train/b": 5, "test/a": 5, "test/b": 5, "extra/a": 1})
    (root / "train" / "a" / "x.heic").touch()
    (root / "train.zip").touch()
    beside, other = sources.open_images(_source(root), SCRATCH).notes
    assert beside == f"{root}: beside train, test there are extra, train.zip; not read"
    assert other == f"{root}/train: left out what is no image (.heic 1), such as {root}/train/a/x.heic"


def test_pictures_without_class_folders_are_named(tmp_path: Path) -> None:
    root = _pictures(tmp_path, {"train/a": 5, "train/b": 5, "test": 3})
    with pytest.raises(BrickyardError, match=r"test/0\.png lies beside the class folders"):
        sources.open_images(_source(root), SCRATCH)


def test_names_of_any_bytes_reach_the_card(tmp_path: Path) -> None:
    root = _pictures(tmp_path / "set", {"a": 4, 'x, "y"\xa0z': 4})
    (root / "a").rename(root / "gar\udce7on")  # in Latin-1
    (root / "gar\udce7on" / "0.png").rename(root / "gar\udce7on" / "\udce9.png")
    divided = _divided(root)
    data.save(tmp_path / "out", divided, _source(root))
    assert json.loads((tmp_path / "out" / "card.json").read_bytes())["classes"] == ["garçon", 'x, "y"\xa0z']
    assert data.load(tmp_path / "out", SCRATCH).images.image(3).size == (8, 8)


def test_a_temporary_copy_of_dvc_says_why_it_has_no_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / ".dvc" / "tmp" / "exps" / "tmpabc"
    (copy / "data" / "images").mkdir(parents=True)
    monkeypatch.chdir(copy)
    for path in ("data/images", "data/nothing"):
        with pytest.raises(BrickyardError, match=r"this is a temporary copy of what git and DVC track"):
            sources.open_images(_source(Path(path)), SCRATCH)


def _write_idx(path: Path, values: np.ndarray) -> None:
    """MNIST's format of arrays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sizes = b"".join(size.to_bytes(4, "big") for size in values.shape)
    path.write_bytes(bytes([0, 0, 8, values.ndim]) + sizes + values.tobytes())


def test_the_checksum_of_an_array_of_torchvision_covers_its_pixels(tmp_path: Path) -> None:
    raw = tmp_path / "scratch" / "torchvision" / "MNIST" / "raw"
    source = _source(tmp_path, source="torchvision", name="MNIST")
    pixels = np.random.default_rng(0).integers(0, 256, (40, 28, 28), np.uint8)
    checksums = []
    for change in (0, 0, 1):
        pixels[7, 3, 3] ^= change
        for part in ("train", "t10k"):
            _write_idx(raw / f"{part}-images-idx3-ubyte", pixels)
            _write_idx(raw / f"{part}-labels-idx1-ubyte", np.arange(40, dtype=np.uint8) % 10)
        images = sources.open_images(source, SCRATCH)
        checksums.append(images.checksum)
    assert checksums[0] == checksums[1] != checksums[2]
    assert images.held_out.tolist() == [False] * 40 + [True] * 40
    assert images.image(45).size == (8, 8)


def test_files_of_torchvision_are_covered_and_its_validation_images_used(tmp_path: Path) -> None:
    root = tmp_path / "scratch" / "torchvision" / "country211"
    source = _source(tmp_path, source="torchvision", name="Country211")
    for i, part in enumerate(("train", "valid", "test")):
        _pictures(root / part, {"a": 3, "b": 3}, "bmp", seed=i)
    divided = data.split(sources.open_images(source, SCRATCH), source, 0)
    assert _counts(divided) == {"train": [3, 3], "validation": [3, 3], "test": [3, 3]}
    content = bytearray((root / "valid" / "a" / "1.bmp").read_bytes())
    content[-1] ^= 1
    (root / "valid" / "a" / "1.bmp").write_bytes(content)
    assert sources.open_images(source, SCRATCH).checksum != divided.images.checksum


@pytest.mark.parametrize("name", ["CIFAR11", "VisionDataset", "Kitti", "LSUN"])
def test_data_sets_that_cannot_be_opened_are_one_line(name: str, tmp_path: Path) -> None:
    with pytest.raises(BrickyardError, match=rf"^dataset\.name = '{name}': (no data set|torchvision cannot open it)"):
        sources.open_images(_source(tmp_path, source="torchvision", name=name), SCRATCH)
