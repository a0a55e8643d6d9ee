"""What was put in a folder is found again, bit for bit, or not at all."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from lib.base import memo
from lib.base.memo import Memo, below, key

TENSORS = {"a": torch.arange(6).reshape(2, 3), "b.c": torch.tensor([0.1, float("nan")], dtype=torch.float64)}


def _same(found: dict[str, torch.Tensor] | None, wanted: dict[str, torch.Tensor]) -> bool:
    if found is None or found.keys() != wanted.keys():
        return False
    return all(
        found[name].dtype == value.dtype and found[name].numpy().tobytes() == value.numpy().tobytes()
        for name, value in wanted.items()
    )


def test_tensors_are_found_under_their_key_alone(tmp_path: Path) -> None:
    kept = Memo(tmp_path / "new")
    assert kept.get("k") is None
    kept.put("k", TENSORS)
    kept.put("empty", {})
    assert _same(kept.get("k"), TENSORS)
    assert _same(Memo(tmp_path / "new").get("empty"), {})
    assert kept.get("other") is None
    kept.put("k", {"a": torch.zeros(1)})
    assert _same(kept.get("k"), {"a": torch.zeros(1)})


def test_without_a_folder_nothing_is_kept() -> None:
    kept = Memo()
    kept.put("k", TENSORS)
    assert kept.get("k") is None
    kept.prune()


@pytest.mark.parametrize("damage", [lambda b: b[:-3], lambda b: b[:-1] + bytes([b[-1] ^ 1]), lambda _: b""])
def test_a_damaged_file_is_as_good_as_none(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    kept = Memo(tmp_path)
    kept.put("k", TENSORS)
    (file,) = tmp_path.iterdir()
    file.write_bytes(damage(file.read_bytes()))
    assert kept.get("k") is None
    kept.put("k", TENSORS)
    assert _same(kept.get("k"), TENSORS)


def test_a_file_that_was_put_under_another_key_is_none(tmp_path: Path) -> None:
    kept = Memo(tmp_path)
    kept.put("k", TENSORS)
    (file,) = tmp_path.iterdir()
    file.rename(file.with_name(file.name.replace("k", "m", 1)))
    assert kept.get("m") is None


def test_what_was_not_used_for_longest_goes_first(tmp_path: Path) -> None:
    kept = Memo(tmp_path)
    for place, name in enumerate("abcd"):
        kept.put(name, {"x": torch.zeros(100)})
        (file,) = (file for file in tmp_path.iterdir() if file.name.startswith(name))
        os.utime(file, ns=(place, place))
    (size,) = {file.stat().st_size for file in tmp_path.iterdir()}
    assert kept.get("a") is not None  # a use
    Memo(tmp_path, 2 * size).prune()
    assert {file.name[0] for file in tmp_path.iterdir()} == {"a", "d"}
    Memo(tmp_path, 2 * size - 1).prune()
    assert {file.name[0] for file in tmp_path.iterdir()} == {"a"}


def test_what_others_write_or_remove_meanwhile_is_no_harm(tmp_path: Path) -> None:
    kept = Memo(tmp_path, 0)
    kept.put("a", {"x": torch.zeros(100)})
    half, left = (tmp_path / f".b.safetensors.{pid}" for pid in (os.getpid(), 999_999_999))
    for file in (half, left):
        file.write_bytes(b"half")
    (tmp_path / "gone").symlink_to(tmp_path / "nothing")  # as a file that is no more when it is looked at
    kept.prune()
    assert {file.name for file in tmp_path.iterdir()} == {half.name, "gone"}


def test_keys_depend_on_parts_packages_and_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    own = Path(memo.__file__)
    first = key(own, ("numpy",), 1, {"b": [2], "a": "x"})
    assert first == key(own, ("numpy",), 1, {"a": "x", "b": [2]})
    others = [key(own, ("numpy",), 2, {"b": [2], "a": "x"}), key(own, ("numpy", "scipy"), 1, {"b": [2], "a": "x"})]
    monkeypatch.setattr(torch, "get_num_threads", lambda: 99)
    others.append(key(own, ("numpy",), 1, {"b": [2], "a": "x"}))
    assert len({first, *others}) == 4


def test_below_takes_off_the_first_name() -> None:
    x, y, z = (torch.zeros(1) for _ in range(3))
    found = below("a", {"a.b": x, "a.b.c": y, "ab.c": z, "a": z})
    assert found.keys() == {"b", "b.c"}
    assert found["b"] is x
    assert found["b.c"] is y
