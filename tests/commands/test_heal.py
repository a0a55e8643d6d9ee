"""Damage in DVC's cache and in the workspace is found by content, removed, and got back with the same hashes."""

import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from lib.base import artifacts, cache
from lib.base.code import ROOT
from lib.base.errors import BrickyardError
from tests import preloaded

STAGES = """
stages:
  first:
    cmd: echo first >>runs; mkdir -p artifacts/first/deep; echo 1 >artifacts/first/one; echo 2 >artifacts/first/deep/two
    outs: [artifacts/first]
  second:
    cmd: echo second >>runs; cat artifacts/first/one artifacts/first/deep/two >artifacts/second.txt
    deps: [artifacts/first]
    outs: [artifacts/second.txt]
"""


def _dvc(repo: Path, *arguments: str) -> str:
    done = preloaded.run(repo, "dvc", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _heal(repo: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    there = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(repo)}
    return preloaded.run(repo, "commands.heal", *arguments, **there)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of two stages, run, with a cache of its own name and place."""
    repo = tmp_path_factory.mktemp("made") / "a project"
    repo.mkdir()
    (repo / "dvc.yaml").write_text(STAGES)
    subprocess.run(["git", "init", "-q"], cwd=repo, check=True)
    _dvc(repo, "init", "-q")
    (repo / ".dvc" / "config").write_text("[core]\n    analytics = false\n[cache]\n    dir = ../elsewhere\n")
    _dvc(repo, "repro", "-q")
    return repo


@pytest.fixture
def repo(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "é project", symlinks=True))


def _object(repo: Path, content: str) -> Path:
    """The object in the cache with this content."""
    (found,) = (
        file for file in (repo / "elsewhere/files").rglob("*") if file.is_file() and content in file.read_text()
    )
    return found


def _flip(file: Path) -> None:
    file.chmod(0o644)
    content = bytearray(file.read_bytes())
    content[0] ^= 1
    file.write_bytes(content)
    file.chmod(0o444)


def _state(repo: Path) -> dict[str, bytes]:
    """All that must be the same afterwards: lock, cache and artifacts."""
    found = [repo / "dvc.lock", *(repo / "elsewhere/files").rglob("*"), *(repo / "artifacts").rglob("*")]
    return {str(file.relative_to(repo)): file.read_bytes() for file in found if file.is_file()}


WHERE = {
    "object": ["elsewhere:1\n2\n"],
    "object in a folder": ["elsewhere:2\n"],
    "list": ["elsewhere:relpath"],
    "workspace": ["artifacts/first/deep/two"],
    "both": ["elsewhere:2\n", "artifacts/first/deep/two"],
    "list and both": ["elsewhere:relpath", "elsewhere:2\n", "artifacts/first/deep/two"],
    "everything": ["elsewhere:relpath", "elsewhere:1\n2\n", "artifacts/first/one", "artifacts/second.txt"],
}
RUNS = {"both": ["first"], "list and both": ["first"], "everything": ["first", "second"]}  # what there is no copy of


FAST = ("object in a folder", "everything")


@pytest.mark.parametrize("which", [w if w in FAST else pytest.param(w, marks=pytest.mark.slow) for w in WHERE])
def test_what_is_damaged_is_found_and_got_back(repo: Path, which: str) -> None:
    before = _state(repo)
    (repo / "data").mkdir()
    (repo / "data" / "mine").write_text("precious")
    for where in WHERE[which]:
        place, _, content = where.partition(":")
        if not content:
            _flip(repo / place)
        elif content == "1\n2\n" or content == "relpath":
            _flip(_object(repo, content))
        else:
            (only,) = (f for f in (repo / "elsewhere/files").rglob("*") if f.is_file() and f.read_text() == content)
            _flip(only)
    damaged = _state(repo)
    dry = _heal(repo, "--dry")
    assert dry.returncode == 1
    assert "damaged" in dry.stdout
    assert _state(repo) == damaged
    done = _heal(repo)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "damaged: removed" in done.stdout
    assert _state(repo) == before
    assert (repo / "runs").read_text().split()[2:] == RUNS.get(which, [])
    assert (repo / "data" / "mine").read_text() == "precious"
    assert _heal(repo).stdout == "nothing is damaged\n"


def test_a_remote_is_asked_first(repo: Path, tmp_path: Path) -> None:
    before = _state(repo)
    _dvc(repo, "remote", "add", "-d", "there", str(tmp_path / "remote"))
    _dvc(repo, "push", "-q")
    for file in (_object(repo, "1\n2\n"), repo / "artifacts/second.txt"):
        _flip(file)
    done = _heal(repo)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "dvc fetch second" in done.stdout
    assert _state(repo) == before
    assert (repo / "runs").read_text().split() == ["first", "second"]


@pytest.mark.slow
def test_a_remote_with_the_same_damage_does_not_bring_it_back(repo: Path, tmp_path: Path) -> None:
    before = _state(repo)
    _dvc(repo, "remote", "add", "-d", "there", str(tmp_path / "remote"))
    _flip(_object(repo, "1\n2\n"))
    _dvc(repo, "push", "-q")
    (repo / "artifacts/second.txt").unlink()
    done = _heal(repo)
    assert done.returncode == 0, done.stdout + done.stderr
    assert _state(repo) == before
    assert (repo / "runs").read_text().split() == ["first", "second", "second"]


def test_what_is_sound_but_another_stays(repo: Path) -> None:
    """By its own checksum, or since the cache has it: of another commit, or made by hand."""
    listed = cache.outs(repo / "dvc.lock")
    found = cache.Cache(repo / "elsewhere/files/md5", repo)
    shutil.copy(repo / "artifacts/first/one", repo / "artifacts/second.txt")
    assert [found.damage(out).files for out in listed] == [(), ()]
    assert found.damage(listed[1]).others == (repo / "artifacts/second.txt",)
    for other, damaged in ((b"{}", True), (b"", False)):
        file = repo / "artifacts/x.json"
        artifacts.write_json(file, {"a": 1})
        file.write_bytes(other or file.read_bytes())
        one = cache.Cache(repo / "elsewhere/files/md5", repo).damage(cache.Out("x", Path("artifacts/x.json"), "0" * 32))
        assert one.files == ((file,) if damaged else ())


def test_what_is_sound_but_another_is_not_replaced_by_what_is_got_back(repo: Path) -> None:
    """Neither when a file beside it is damaged nor when a stage has to run again."""
    other, beside = repo / "artifacts/first/one", repo / "artifacts/first/deep/two"
    other.unlink()
    shutil.copy(repo / "artifacts/second.txt", other)
    _flip(beside)
    done = _heal(repo)
    assert (done.returncode, beside.read_text(), other.read_text()) == (0, "2\n", "1\n2\n"), done.stdout + done.stderr
    _flip(beside)
    (only,) = (f for f in (repo / "elsewhere/files").rglob("*") if f.is_file() and f.read_text() == "2\n")
    _flip(only)
    done = _heal(repo)
    assert done.returncode == 1
    assert "making it anew may replace artifacts/first/one, which is whole" in done.stderr
    assert other.read_text() == "1\n2\n"
    again = _heal(repo)  # what was begun is not forgotten
    assert (again.returncode, again.stderr) == (1, "heal: 1 of 2 outputs are not here: ./run dvc repro first\n")
    other.unlink()
    _dvc(repo, "repro", "first")
    assert (beside.read_text(), _heal(repo).stdout) == ("2\n", "nothing is damaged\n")


@pytest.mark.parametrize("name", ["../../../mine", "/mine", "."])
def test_a_list_that_names_what_is_not_below_its_folder_is_damaged(repo: Path, name: str) -> None:
    listed = json.dumps([{"md5": "0" * 32, "relpath": name}]).encode()
    md5 = hashlib.md5(listed).hexdigest() + ".dir"
    file = repo / "elsewhere/files/md5" / md5[:2] / md5[2:]
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(listed)
    found = cache.Cache(repo / "elsewhere/files/md5", repo)
    damage = found.damage(cache.Out("first", Path("artifacts/first"), md5))
    assert (damage.objects, damage.files) == ((md5,), ())


def test_the_checksum_beside_a_table_is_whole_with_its_table(tmp_path: Path) -> None:
    table = tmp_path / "artifacts/x/t.csv"
    artifacts.write_csv(table, pd.DataFrame({"a": [1]}))
    seal = table.with_name("t.csv.sha256")
    lists = [{"md5": "0" * 32, "relpath": file.name} for file in (table, seal)]
    md5 = hashlib.md5(json.dumps(lists).encode()).hexdigest() + ".dir"
    found = cache.Cache(tmp_path / "cache", tmp_path)
    found.file(md5).parent.mkdir(parents=True)
    found.file(md5).write_bytes(json.dumps(lists).encode())
    assert found.damage(cache.Out("x", Path("artifacts/x"), md5)).others == (table, seal)
    table.write_text("b\n2\n")
    damage = cache.Cache(tmp_path / "cache", tmp_path).damage(cache.Out("x", Path("artifacts/x"), md5))
    assert damage.files == (table, seal)


@pytest.mark.parametrize(
    "lock",
    [
        *("<<<<<<< HEAD\na: 1\n", "", "stages: []", "stages: {a: {outs: [{md5: 1}]}}", "[" * 9999),
        *("stages: {a: {deps: [{pa: 1}]}}", "stages: {a: {deps: [pa]}}", "stages: {a: {deps: [{path: p, md5: 12}]}}"),
        "stages: {a: {outs: [{path: p, md5: aa/tmp/precious}]}}",
    ],
)
def test_a_lock_that_cannot_be_read_is_one_line(lock: str, tmp_path: Path) -> None:
    with pytest.raises(BrickyardError, match=r"dvc\.lock not found: run from the root"):
        cache.outs(tmp_path / "dvc.lock")
    (tmp_path / "dvc.lock").write_text(lock)
    with pytest.raises(
        BrickyardError, match=r"dvc\.lock cannot be read, as after a merge with conflicts: remove it and"
    ):
        cache.outs(tmp_path / "dvc.lock")


def test_nothing_is_removed_while_dvc_is_at_work(repo: Path) -> None:
    _flip(repo / "artifacts/second.txt")
    lock = repo / ".dvc/tmp/rwlock"
    lock.write_text('{"write": {"artifacts/first": {"pid": 1, "cmd": "dvc repro"}}, "read": {}}')
    done = _heal(repo)
    assert (done.returncode, done.stderr) == (1, "heal: DVC is at work (process 1): wait until it has ended\n")
    lock.write_text('{"write": {"artifacts/first": {"pid": 999999999, "cmd": "dvc repro"}}, "read": {}}')
    assert _heal(repo).returncode == 0
