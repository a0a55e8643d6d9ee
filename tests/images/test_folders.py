"""Image folders: which are classes, which files count, in which order."""

import unicodedata
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from lib.base.errors import BrickyardError
from lib.base.stored import ClassName
from lib.images import folders


def _touch(root: Path, *names: str) -> Path:
    for name in names:
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"x")
    return root


def _found(root: Path) -> list[tuple[str, str]]:
    read = folders.read(root)
    return [(name, str(file.relative_to(root))) for name, file in folders.order(read)]


def test_the_class_is_the_first_level(tmp_path: Path) -> None:
    _touch(tmp_path, "cat/monday/1.png", "cat/tuesday/a/b/2.png", "dog/monday/1.png", "dog/0.png")
    assert _found(tmp_path) == [
        ("cat", "cat/monday/1.png"),
        ("cat", "cat/tuesday/a/b/2.png"),
        ("dog", "dog/0.png"),
        ("dog", "dog/monday/1.png"),
    ]


def test_what_is_hidden_or_left_by_a_file_manager_does_not_count(tmp_path: Path) -> None:
    _touch(tmp_path, "cat/1.png", "dog/1.png", "cat/._1.png", "cat/.ipynb_checkpoints/1.png", ".thumbnails/1.png")
    _touch(
        tmp_path, "__MACOSX/cat/1.png", "cat/Thumbs.db", "dog/.DS_Store", "desktop.ini", "dog/@eaDir/1.png", "._x.png"
    )
    assert _found(tmp_path) == [("cat", "cat/1.png"), ("dog", "dog/1.png")]
    assert folders.read(tmp_path).other == []


def test_every_suffix_that_is_read_and_what_is_left_out(tmp_path: Path) -> None:
    images = ["a.jpg", "b.JPEG", "c.jpe", "d.png", "e.bmp", "f.gif", "g.tif", "h.TIFF", "i.webp", "j.ppm", "k.pgm"]
    _touch(tmp_path, *(f"cat/{name}" for name in images), "dog/x.webp", "dog/x.heic", "dog/y.heic", "cat/notes")
    _touch(tmp_path, "readme.txt")
    assert [name for _, name in _found(tmp_path)] == [*(f"cat/{name}" for name in images), "dog/x.webp"]
    assert folders.kinds(folders.read(tmp_path).other) == ".heic 2, .txt 1, without suffix 1"


def test_the_order_is_natural_and_never_by_chance(tmp_path: Path) -> None:
    names = ["tomato", "Tomato", "pepper", "img10", "img2", "TOMATO", "Été", "10", "9"]
    _touch(tmp_path, *(f"{name}/{i}.png" for name in names for i in (10, 9)))
    expected = ["9", "10", "img2", "img10", "pepper", "TOMATO", "Tomato", "tomato", "Été"]
    assert list(folders.read(tmp_path).files) == expected
    assert _found(tmp_path)[:4] == [("9", "9/9.png"), ("9", "9/10.png"), ("10", "10/9.png"), ("10", "10/10.png")]


def test_the_order_is_that_of_timm_where_it_has_one(tmp_path: Path) -> None:
    from timm.data.readers.reader_image_folder import ReaderImageFolder

    _touch(tmp_path, *(f"{name}/{i}_x{9 - i}.png" for name in ("b", "a b", "a", "A1", "a10", "a2") for i in range(12)))
    reader = ReaderImageFolder(str(tmp_path))
    assert list(folders.read(tmp_path).files) == list(reader.class_to_idx)
    assert [str(tmp_path / name) for _, name in _found(tmp_path)] == [file for file, _ in reader.samples]


def test_links_are_followed_and_loops_end(tmp_path: Path) -> None:
    _touch(tmp_path / "store", "cats/1.png", "cats/inner/2.png", "dogs/1.png")
    root = tmp_path / "set"
    root.mkdir()
    (root / "cat").symlink_to(tmp_path / "store" / "cats")
    _touch(root, "dog/0.png")
    (root / "dog" / "1.png").symlink_to(tmp_path / "store" / "dogs" / "1.png")
    (tmp_path / "store" / "cats" / "again").symlink_to(root)
    (tmp_path / "store" / "cats" / "inner" / "up").symlink_to("..")
    (root / "dog" / "all").symlink_to(tmp_path)
    assert _found(root) == [
        ("cat", "cat/1.png"),
        ("cat", "cat/inner/2.png"),
        ("dog", "dog/0.png"),
        ("dog", "dog/1.png"),
    ]


def test_names_of_any_bytes(tmp_path: Path) -> None:
    decomposed = unicodedata.normalize("NFD", "été")
    _touch(tmp_path, f"{decomposed}/1.png", 'a, "b"/x\ty.png', "گل\u200cها/1.png", "a\xa0b/1.png")
    _touch(tmp_path, "gar\udce7on/\udce9.png")  # in Latin-1
    read = folders.read(tmp_path)
    assert set(read.files) == {"été", 'a, "b"', "garçon", "گل\u200cها", "a\xa0b"}
    for name in read.files:
        name.encode()
        assert TypeAdapter(ClassName).validate_python(name) == name


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "no images found; expected one sub-folder of images a class"),
        (["stray.png", "cat/1.png", "dog/1.png"], "stray.png lies beside the class folders; move it"),
        (["cat/1.png", "dog/"], "dog has no images; fill the folder or remove it"),
        (["cat/1.png", "dog/.1.png"], "dog has no images; fill the folder or remove it"),
        (
            ["cat/1.png", "dog/1.heic", "dog/2.heic"],
            "dog has no images; of what is there (.heic 2) nothing can be read",
        ),
        (["cat/1.png", "a\tb/1.png"], "would be called 'a\\tb', which should be one line without control characters"),
        (["cat/1.png", "don\udc92t/1.png"], "would be called 'don\\x92t', which should be one line"),  # in Windows-1252
        (["cat/1.png", "a\u2028b/1.png"], "would be called 'a\\u2028b', which should be one line"),
        (["été/1.png", "e\u0301te\u0301/1.png"], "two folders are named 'été'; put their images together"),
    ],
)
def test_what_is_no_folder_of_classes(names: list[str], message: str, tmp_path: Path) -> None:
    for name in names:
        (tmp_path / name).mkdir(parents=True) if name.endswith("/") else _touch(tmp_path, name)
    with pytest.raises(BrickyardError) as error:
        folders.read(tmp_path)
    assert message in str(error.value)
    assert str(error.value).isprintable()


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["train/cat/", "test/cat/"], {"train": "train", "test": "test"}),
        (["train/cat/", "val/cat/"], {"train": "train", "validation": "val"}),
        (["Training/cat/", "VALID/cat/", "Test/cat/"], {"train": "Training", "validation": "VALID", "test": "Test"}),
        (["train/cat/", "validation.zip"], {"train": "train", "validation": "validation.zip"}),
        (["train.tar", "train/cat/", "test.tgz"], {"train": "train", "test": "test.tgz"}),
        (["cat/", "dog/"], {"train": "."}),
        (["train/1.png", "car/1.png"], {"train": "."}),  # a train is a vehicle
        (["valid/1.png", "invalid/1.png"], {"train": "."}),
        (["train/1.png", "test/1.png"], {"train": "train", "test": "test"}),  # pictures without classes: told later
    ],
)
def test_parts(names: list[str], expected: dict[str, str], tmp_path: Path) -> None:
    for name in names:
        (tmp_path / name).mkdir(parents=True) if name.endswith("/") else _touch(tmp_path, name)
    assert folders.parts(tmp_path) == {part: tmp_path / name for part, name in expected.items()}


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["test/cat/", "cat/"], "has 'test' but no folder or archive 'train'"),
        (["val.tar"], "has 'val.tar' but no folder or archive 'train'"),
        (["train/cat/", "val/cat/", "valid/cat/"], "'val' and 'valid' are both for validation; keep one"),
        (["train.tar", "train.zip"], "'train.tar' and 'train.zip' are both for train; keep one"),
    ],
)
def test_parts_that_are_not_clear(names: list[str], message: str, tmp_path: Path) -> None:
    for name in names:
        (tmp_path / name).mkdir(parents=True) if name.endswith("/") else _touch(tmp_path, name)
    with pytest.raises(BrickyardError, match=message):
        folders.parts(tmp_path)
    assert folders.beside(tmp_path, []) == sorted({name.split("/")[0] for name in names})


def test_an_archive_begins_where_its_classes_do(tmp_path: Path) -> None:
    _touch(tmp_path, "readme.txt", "pets/set/cat/1.png", "pets/set/dog/1.png", "__MACOSX/pets/._x")
    assert folders.inner(tmp_path) == tmp_path / "pets" / "set"
    assert folders.inner(tmp_path / "pets" / "set") == tmp_path / "pets" / "set"
