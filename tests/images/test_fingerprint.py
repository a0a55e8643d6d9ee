"""Checksums of files: over content, quick the second time, never out of date."""

import hashlib
import os
from pathlib import Path

import pytest

from lib.base.errors import BrickyardError
from lib.images import fingerprint

LONG_AGO = 10**18  # ns


def _files(folder: Path, count: int = 3) -> list[Path]:
    files = [folder / f"{i}\udce9.bin" for i in range(count)]
    for i, file in enumerate(files):
        file.write_bytes(bytes([i]) * 100)
    return files


class Clock:
    """Counts what is looked at anew; time stands a minute after the files were written."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, later: int = 60):
        self.looked: list[Path] = []
        now = fingerprint.time.time_ns() + later * 10**9
        monkeypatch.setattr(fingerprint.time, "time_ns", lambda: now)

    def sums(self, files: list[Path], cache: Path) -> list[str]:
        """Checksums; `looked` holds the files that were not remembered."""
        self.looked.clear()
        return fingerprint.of_files(files, cache, self.looked.append)


def test_what_stays_as_it_is_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files, cache, clock = _files(tmp_path), tmp_path / "cache" / "x.json", Clock(monkeypatch)
    first = clock.sums(files, cache)
    assert first == [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
    assert clock.looked == files
    assert clock.sums(files, cache) == first
    assert clock.looked == []
    assert [file.name for file in cache.parent.iterdir()] == ["x.json"]


@pytest.mark.parametrize("how", ["in place", "replaced", "times put back"])
def test_a_change_of_equal_size_is_seen(how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files, cache, clock = _files(tmp_path), tmp_path / "x.json", Clock(monkeypatch)
    before = clock.sums(files, cache)
    old = files[1].stat()
    if how == "replaced":
        (tmp_path / "new").write_bytes(b"x" * 100)
        (tmp_path / "new").replace(files[1])
    else:
        files[1].write_bytes(b"x" * 100)
    if how != "in place":
        os.utime(files[1], ns=(old.st_atime_ns, old.st_mtime_ns))
    after = clock.sums(files, cache)
    assert clock.looked == [files[1]]
    assert [a == b for a, b in zip(before, after, strict=True)] == [True, False, True]


def test_what_may_have_changed_within_the_same_tick_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, clock = _files(tmp_path), Clock(monkeypatch, later=0)
    first = clock.sums(files, tmp_path / "x.json")
    assert clock.sums(files, tmp_path / "x.json") == first
    assert clock.looked == files


@pytest.mark.parametrize("damage", ["bit", "cut", "empty", "folder", "no JSON"])
def test_a_damaged_cache_only_costs_time(damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files, cache, clock = _files(tmp_path), tmp_path / "x.json", Clock(monkeypatch)
    first = clock.sums(files, cache)
    content = bytearray(cache.read_bytes())
    content[-20] ^= 1
    cache.unlink()
    if damage == "folder":
        cache.mkdir()
    else:
        cache.write_bytes({"bit": bytes(content), "cut": bytes(content[:-9]), "empty": b"", "no JSON": b"x"}[damage])
    assert clock.sums(files, cache) == first
    assert clock.looked == files


def test_an_error_names_the_file_and_comes_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files, cache, clock = _files(tmp_path), tmp_path / "x.json", Clock(monkeypatch)

    def check(file: Path) -> None:
        clock.looked.append(file)
        if file != files[1]:
            raise BrickyardError(f"{file.name[0]} is bad")

    for looked in (files, [files[0], files[2]]):  # what was right is remembered
        clock.looked.clear()
        with pytest.raises(BrickyardError, match=r"^0 is bad \(and 1 more files\)$"):
            fingerprint.of_files(files, cache, check)
        assert clock.looked == looked
    files[2].unlink()
    with pytest.raises(BrickyardError, match=r"2.* cannot be read: No such file"):
        fingerprint.of_files(files, cache)
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(BrickyardError, match="is no ordinary file"):
        fingerprint.of_files([tmp_path / "pipe.png"], cache)
