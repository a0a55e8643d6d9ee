"""Data sets of torchvision, made here in the formats in which they are downloaded: nothing is."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import TypeAdapter

from lib.base.errors import BrickyardError
from lib.base.stored import ClassNames
from lib.images import sources
from lib.images.sources import Images
from lib.params.dataset import Dataset
from tests.images.test_sources import _pictures, _source, _write_idx

Make = Callable[[Path], None]


def _opened(scratch: Path, name: str, **options: Any) -> Images:
    return sources.open_images(_source(scratch, source="torchvision", name=name, options=options), scratch)


def _emnist(root: Path, split: str, labels: list[int]) -> np.ndarray:
    pixels = np.random.default_rng(0).integers(0, 256, (len(labels), 28, 28), np.uint8)
    for part in ("train", "test"):
        _write_idx(root / "EMNIST" / "raw" / f"emnist-{split}-{part}-images-idx3-ubyte", pixels)
        _write_idx(root / "EMNIST" / "raw" / f"emnist-{split}-{part}-labels-idx1-ubyte", np.array(labels, np.uint8))
    return pixels


def _picture(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), np.uint8)
    Image.fromarray(pixels).save(path, format="ppm" if path.suffix == ".ppm" else "png")


def _pets(root: Path) -> None:
    """37 breeds as there are, two here: cats begin with a capital, dogs do not."""
    lines = {"trainval": ["Sphynx_1 2 1 1", "pug_1 1 2 1", "pug_2 1 2 1", "Sphynx_4 2 1 1"]}
    lines["test"] = ["pug_9 1 2 1", "Sphynx_9 2 1 1"]
    for part, own in lines.items():
        (root / "oxford-iiit-pet" / "annotations").mkdir(parents=True, exist_ok=True)
        (root / "oxford-iiit-pet" / "annotations" / f"{part}.txt").write_text("\n".join(own))
        for line in own:
            _picture(root / "oxford-iiit-pet" / "images" / f"{line.split()[0]}.jpg", len(line))


def test_pets_are_divided_as_they_call_it(tmp_path: Path) -> None:
    _pets(tmp_path / "torchvision")
    found = _opened(tmp_path, "OxfordIIITPet")
    assert found.classes == ("Pug", "Sphynx")
    assert found.labels.tolist() == [1, 0, 0, 1, 0, 1]
    assert found.held_out.tolist() == [False] * 4 + [True] * 2
    assert found.image(5).size == (8, 8)
    by_kind = _opened(tmp_path, "OxfordIIITPet", target_types="binary-category")
    assert by_kind.labels.tolist() == [0, 1, 1, 0, 1, 0]
    assert by_kind.classes == ("0", "1")  # not the names of breeds
    (tmp_path / "torchvision" / "oxford-iiit-pet" / "images" / "pug_9.jpg").unlink()
    with pytest.raises(BrickyardError, match=r"pug_9\.jpg"):
        _opened(tmp_path, "OxfordIIITPet")


@pytest.mark.parametrize(
    ("split", "labels", "classes"),
    [("balanced", [0, 46, 10] * 2, ("0", "A", "t")), ("digits", [0, 9, 3, 3, 9, 0], ("0", "3", "9"))],
)
def test_a_kind_of_emnist_is_an_option(split: str, labels: list[int], classes: tuple[str, ...], tmp_path: Path) -> None:
    pixels = _emnist(tmp_path / "torchvision", split, labels)
    found = _opened(tmp_path, "EMNIST", split=split)
    assert found.classes == classes
    assert [sorted(set(labels))[label] for label in found.labels[:6]] == labels
    assert found.held_out.tolist() == [False] * 6 + [True] * 6
    image = np.asarray(found.image(7).convert("L"))
    assert image.tolist() == np.asarray(Image.fromarray(pixels[1]).resize((8, 8), Image.Resampling.BICUBIC)).tolist()


def test_a_class_without_images_is_left_out_and_said(tmp_path: Path) -> None:
    """EMNIST counts its letters from 1; their class 0 is called N/A."""
    _emnist(tmp_path / "torchvision", "letters", list(range(1, 27)) * 2)
    found = _opened(tmp_path, "EMNIST", split="letters")
    assert found.classes == tuple("abcdefghijklmnopqrstuvwxyz")
    assert found.labels[:26].tolist() == list(range(26))
    assert found.notes == ("dataset.name = 'EMNIST': there is no image of 'N/A'; left out",)


def test_labels_that_stand_with_the_files_open_no_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "torchvision" / "gtsrb"
    for i, label in enumerate([0, 1, 0, 1]):
        _picture(root / "GTSRB" / "Training" / f"{label:05}" / f"{i}.ppm", i)
        _picture(root / "GTSRB" / "Final_Test" / "Images" / f"{i}.ppm", 9 + i)
    rows = "".join(f"{i}.ppm;{label}\n" for i, label in enumerate([1, 0, 0, 1]))
    (root / "GT-final_test.csv").write_text(f"Filename;ClassId\n{rows}")
    opened = []
    original = Image.open
    monkeypatch.setattr(Image, "open", lambda path, *rest, **more: opened.append(path) or original(path, *rest, **more))
    found = _opened(tmp_path, "GTSRB")
    assert found.labels.tolist() == [0, 0, 1, 1, 1, 0, 0, 1]
    assert found.held_out.tolist() == [False] * 4 + [True] * 4
    assert len(opened) <= 2 + 8  # the first of each part, and each once for the checksum


def test_parts_without_labels_are_not_read(tmp_path: Path) -> None:
    root = tmp_path / "torchvision" / "clevr" / "CLEVR_v1.0"
    (root / "scenes").mkdir(parents=True)
    for part in ("train", "val", "test"):
        for i in range(4):
            _picture(root / "images" / part / f"{i}.png", i)
        scenes = [{"image_filename": f"{i}.png", "objects": [0] * (3 + i % 2)} for i in range(4)]
        (root / "scenes" / f"CLEVR_{part}_scenes.json").write_text(json.dumps({"scenes": scenes}))
    found = _opened(tmp_path, "CLEVRClassification")
    assert found.labels.tolist() == [0, 1] * 4
    assert found.classes == ("3", "4")
    assert found.validation is not None
    assert found.validation.tolist() == [False] * 4 + [True] * 4
    assert not found.held_out.any()
    assert found.notes == ("dataset.name = 'CLEVRClassification': its test images have no labels; not read",)


def test_options_that_divide_leave_no_parts_and_names_of_several_words_are_one(tmp_path: Path) -> None:
    for part in ("train", "val"):
        folder = tmp_path / "torchvision" / "imagenette2-160" / part
        _pictures(folder, {"n01440764": 3, "n03425413": 3}, "jpeg", seed=len(part))
    both, one = (_opened(tmp_path, "Imagenette", size="160px", **more) for more in ({}, {"split": "val"}))
    assert both.validation is not None
    assert both.validation.tolist() == [False] * 6 + [True] * 6
    assert one.own_parts == {}
    assert one.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert both.classes == ("tench, Tinca tinca", "gas pump, gasoline pump, petrol pump, island dispenser")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "EMNIST",
            {},
            r"needs dataset\.options\.split \(byclass \| bymerge \| balanced \| letters \| digits \| mnist\)",
        ),
        ("EMNIST", {"split": "greek"}, "torchvision cannot open it: Unknown value 'greek' for argument split"),
        ("Kinetics", {}, r"needs dataset\.options\.frames_per_clip"),
        ("DatasetFolder", {}, "torchvision cannot open it"),
        ("FakeData", {}, "torchvision cannot open it"),
        ("CIFAR11", {}, "no data set of torchvision.datasets has this name"),
    ],
)
def test_what_cannot_be_opened_is_one_line(name: str, options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(BrickyardError, match=rf"^dataset\.name = '{name}': {message}") as caught:
        _opened(tmp_path, name, **options)
    assert "\n" not in str(caught.value)


def test_unknown_options_and_options_of_other_sources_are_refused(tmp_path: Path) -> None:
    for option in ("spilt", "root"):
        with pytest.raises(
            BrickyardError, match=rf"^dataset\.options\.{option}: EMNIST has no such argument; it has split"
        ):
            _opened(tmp_path, "EMNIST", split="digits", **{option: "a"})
    with pytest.raises(
        ValueError, match=r"are arguments of a class of torchvision\.datasets; the source is another one"
    ):
        _source(tmp_path, options={"split": "digits"})


def test_images_that_belong_to_no_class_are_refused(tmp_path: Path) -> None:
    root = tmp_path / "torchvision" / "Kitti" / "raw"
    for part, folders in {"training": ("image_2", "label_2"), "testing": ("image_2",)}.items():
        _picture(root / part / "image_2" / "0.png", 0)
        if "label_2" in folders:
            (root / part / "label_2").mkdir()
            (root / part / "label_2" / "0.txt").write_text("Car 0 0 0 1 2 3 4 5 6 7 8 9 10 11")
    with pytest.raises(BrickyardError, match=r"^dataset\.name = 'Kitti': its images do not belong to one class each"):
        _opened(tmp_path, "Kitti")


def test_a_card_names_options_only_where_there_are_some(tmp_path: Path) -> None:
    """So that artifacts that were made before there were any are still the same."""
    plain, other = (_source(tmp_path, source="torchvision", name="EMNIST", options=own) for own in ({}, {"split": "a"}))
    assert "options" not in plain.model_dump()
    assert Dataset.model_validate(other.model_dump()) == other


class _Made:
    """A set of torchvision's.

    Args:
        split (str): ``train``
    """

    classes: tuple[Any, ...] = ()
    wnids: tuple[str, ...] | None = None

    def __init__(self, root: str) -> None:
        self.targets = [i % len(self.classes) for i in range(12 * len(self.classes))]

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, i: int) -> tuple[Image.Image, int]:
        return Image.fromarray(np.full((8, 8, 3), i, np.uint8)), self.targets[i]


CRANES = (("crane",), ("cat", "house cat"), ("crane",), ("crane 2",))  # as ImageNet's 134 and 517


@pytest.mark.parametrize(
    ("wnids", "classes"),
    [
        (
            ("n02012849", "n02121808", "n03126707", "n0"),
            ("crane (n02012849)", "cat, house cat", "crane (n03126707)", "crane 2"),
        ),
        (None, ("crane 1", "cat, house cat", "crane 3", "crane 2")),
    ],
)
def test_classes_of_one_name_are_told_apart(
    wnids: tuple[str, ...] | None, classes: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = type("Cranes", (_Made,), {"classes": CRANES, "wnids": wnids})
    monkeypatch.setattr("torchvision.datasets.Cranes", kind, raising=False)
    found = _opened(tmp_path, "Cranes").classes
    assert found == classes
    assert TypeAdapter(ClassNames).validate_python(found) == found


@pytest.mark.parametrize(
    ("name", "message"),
    [("a\nb", r"'a.nb', which should be one line"), ("", "'', which should have 1 to 1000 characters")],
)
def test_a_name_that_no_card_takes_is_refused(
    name: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torchvision.datasets.Odd", type("Odd", (_Made,), {"classes": ("cat", name)}), raising=False)
    with pytest.raises(BrickyardError, match=rf"^dataset\.name = 'Odd': class 1 is called {message}"):
        _opened(tmp_path, "Odd")
