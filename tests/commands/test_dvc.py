"""DVC that edits its lock file writes, byte for byte, what DVC writes."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from commands import dvc
from lib.base.code import ROOT
from tests import preloaded

DAG = """stages:
  each:
    foreach: [a, b, c]
    do:
      cmd: echo ${item} "a long command, which DVC breaks into lines of at most eighty characters" > ${item}.txt
      params: [one, several]
      outs: ["${item}.txt"]
  all:
    cmd: cat a.txt b.txt c.txt > all.txt
    deps: [a.txt, b.txt, c.txt]
    outs: [all.txt]
"""
LOCK = "dvc.lock"


@pytest.fixture
def repro(tmp_path: Path) -> Callable[..., tuple[bytes, bytes]]:
    """Changes both of two folders and has DVC and ours reproduce them; the lock of each."""
    first, second = tmp_path / "dvc", tmp_path / "ours"
    first.mkdir()
    (first / "dvc.yaml").write_text(DAG)
    (first / "params.yaml").write_text("one: 1.0e-4\nseveral: {yes: 'on', none: null, list: [0.5, '7', é]}\n")
    subprocess.run(["git", "init", "-q"], cwd=first, check=True)
    assert preloaded.run(first, "dvc", "init", "-q").returncode == 0
    shutil.copytree(first, second)

    def both(change: Callable[[Path], object] = str, *targets: str) -> tuple[bytes, bytes]:
        found = list[bytes]()
        for folder, module in ((first, "dvc"), (second, "commands.dvc")):
            change(folder)
            done = preloaded.run(folder, module, "repro", *targets, PYTHONPATH=str(ROOT))
            assert done.returncode == 0, done.stdout + done.stderr
            found.append((folder / LOCK).read_bytes())
        return found[0], found[1]

    return both


def _edit(name: str, old: str, new: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text((folder / name).read_text().replace(old, new, 1))


def test_it_writes_what_dvc_writes(repro: Callable[..., tuple[bytes, bytes]], tmp_path: Path) -> None:
    theirs, ours = repro(str, "each@b")  # there is no lock before
    assert ours == theirs
    assert dvc.parts(ours.decode())
    for change in (str, _edit("params.yaml", "1.0e-4", "2"), _edit("dvc.yaml", "cat a.txt", "cat")):
        before = (tmp_path / "ours" / LOCK).stat().st_ino
        theirs, ours = repro(change)
        assert ours == theirs
        assert (tmp_path / "ours" / LOCK).stat().st_ino != before  # whole, in place of the one before
    assert list(dvc.parts(ours.decode()) or ()) == ["each@b", "each@a", "each@c", "all"]


@pytest.mark.parametrize(
    "edit",
    [
        pytest.param(_edit(LOCK, "schema", "# mine\nschema"), id="a comment before all"),
        pytest.param(_edit(LOCK, "  each@b:", "# mine\n  each@b:"), id="a comment between"),
        pytest.param(_edit(LOCK, "  each@b:", '  "each@b":'), id="a name in quotes"),
        pytest.param(_edit(LOCK, "stages:", "datasets: []\nstages:"), id="more than stages"),
    ],
)
def test_what_dvc_has_not_written_is_left_to_dvc(
    repro: Callable[..., tuple[bytes, bytes]], edit: Callable[[Path], object]
) -> None:
    repro()

    def change(folder: Path) -> None:
        edit(folder)
        assert dvc.parts((folder / LOCK).read_text()) is None
        _edit("params.yaml", "1.0e-4", "3")(folder)

    theirs, ours = repro(change)
    assert ours == theirs
