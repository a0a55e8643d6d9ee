"""What waits comes back as it was, in memory or from files, and files are gone afterwards."""

import shutil
from pathlib import Path

import pytest
import torch

from lib.base import waiting
from lib.base.errors import BrickyardError
from lib.base.waiting import Waiting


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "FOLDER", tmp_path)


def batches() -> list[dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [{"x": torch.randn(4, 3, generator=generator), "y": torch.arange(4) + i} for i in range(5)]


@pytest.mark.parametrize("room", [0, 100, 2**20])
def test_batches_come_back_as_they_were(room: int, tmp_path: Path) -> None:
    held = Waiting(5, room)
    for batch in batches():
        held.add({name: tensor.T.contiguous().T if tensor.ndim > 1 else tensor for name, tensor in batch.items()})
    assert bool(list(tmp_path.iterdir())) == (room < 5 * 80)
    for found in (list(held), list(held), list(held.drained())):
        assert len(found) == 5
        for one, other in zip(found, batches(), strict=True):
            assert one.keys() == other.keys()
            assert all(torch.equal(one[name], other[name]) for name in other)
    assert len(held) == 0
    del held
    assert not list(tmp_path.iterdir())


def test_what_has_been_given_leaves_its_room(tmp_path: Path) -> None:
    held = Waiting(5, 0)
    for batch in batches():
        held.add(batch)
    left = [len(list(next(tmp_path.iterdir()).iterdir())) for _ in held.drained()]
    assert left == [4, 3, 2, 1, 0]


def test_too_small_a_disk_is_one_line_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(100, 1, 99))
    held = Waiting(5, 100)
    held.add(batches()[0])
    with pytest.raises(BrickyardError, match=r"^activations that wait .* GiB of disk, where .*: make room, raise"):
        held.add(batches()[1])
    assert not [file for file in tmp_path.rglob("*") if file.is_file()]
