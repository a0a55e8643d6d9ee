"""DVC that reads and writes its lock file in parts reads and writes, byte for byte, what DVC does."""

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


def test_it_reads_what_dvc_reads_and_leaves_to_dvc_what_cannot_be_read() -> None:
    from dvc.utils.serialize import YAMLFileCorruptedError, parse_yaml

    text, asked = (ROOT / LOCK).read_text(), list[str]()

    def whole(text: str, *rest: str) -> object:
        asked.append(text)
        return parse_yaml(text, *rest)

    parse, known = dvc.once(whole), parse_yaml(text, LOCK)
    parse(text, LOCK)["stages"].clear()  # what is kept stays as it is
    changed = text.replace("    cmd: ", "    cmd: not ", 1)
    assert parse(text, LOCK) == known
    assert list(parse(text, LOCK)["stages"]) == list(known["stages"])
    assert parse(changed, LOCK) == parse_yaml(changed, LOCK) != known
    assert len(asked) == len(known["stages"]) + 1  # an entry of the lock each, and the one that changed
    asked.clear()
    assert [parse("a: {b: c.py:d}", "params.yaml").pop("a") for _ in range(2)] == [{"b": "c.py:d"}] * 2
    parse(text, LOCK, "rt")  # with its comments
    assert asked == ["a: {b: c.py:d}", text]
    broken = "schema: '2.0'\nstages:\n  code:\n    cmd: [\n"
    with pytest.raises(YAMLFileCorruptedError):
        parse(broken, LOCK)
    assert asked[-1] == broken


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


def test_what_dvc_has_not_written_is_left_to_dvc(repro: Callable[..., tuple[bytes, bytes]]) -> None:
    lock = repro()[1].decode()
    edits = {
        "a comment before all": lock.replace("schema", "# mine\nschema"),
        "a comment between": lock.replace("  each@b:", "# mine\n  each@b:"),
        "a name in quotes": lock.replace("  each@b:", '  "each@b":'),
        "more than stages": lock.replace("stages:", "datasets: []\nstages:"),
    }
    for what, text in edits.items():
        assert text != lock
        assert dvc.parts(text) is None, what

    def change(folder: Path) -> None:
        (folder / LOCK).write_text(edits["a comment between"])
        _edit("params.yaml", "1.0e-4", "3")(folder)

    theirs, ours = repro(change)
    assert ours == theirs
