"""How a stage or a command ends when something goes wrong that its user can mend."""

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lib.base import artifacts
from lib.base.code import ROOT
from lib.base.errors import BrickyardError
from stages import in_one_line
from tests import preloaded


def ended(error: BaseException, capsys: pytest.CaptureFixture[str]) -> tuple[str, int]:
    """What is said, and the exit code."""
    with pytest.raises(SystemExit) as found, in_one_line("program"):
        raise error
    return capsys.readouterr().err.removesuffix("\n"), int(str(found.value.code))


@pytest.mark.parametrize(
    ("error", "said", "code"),
    [
        (BrickyardError("lego.form = a\n is unknown"), "program: lego.form = a is unknown", 1),
        (OSError(errno.ENOSPC, "full"), "program: No space left on device; make room and run it again", 1),
        (OSError(errno.EDQUOT, "full", "a/b"), "program: a/b: Disk quota exceeded; make room and run it again", 1),
        (PermissionError(errno.EACCES, "no", "a"), "program: a: Permission denied; give yourself the right to it", 1),
        (OSError(errno.EIO, "no", b"a\nb"), "program: a b: Input/output error", 1),
        (OSError("image file is truncated"), "program: OSError: image file is truncated", 1),
        (BrokenPipeError(errno.EPIPE, "no"), "program: stopped: its output was closed", 141),
        (RecursionError("maximum recursion depth"), "program: something that it was given is nested too deeply", 1),
        (MemoryError(), "program: not enough memory", 1),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), "program: not enough memory", 1),
        (KeyboardInterrupt(), "program: interrupted; run it again", 130),
    ],
)
def test_what_a_user_can_mend_is_one_line(
    error: BaseException, said: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    line, found = ended(error, capsys)
    assert line.startswith(said)
    assert "\n" not in line
    assert found == code


@pytest.mark.parametrize("error", [ValueError("a bug"), RuntimeError("a bug"), KeyError("a bug")])
def test_anything_else_keeps_its_traceback(error: Exception) -> None:
    with pytest.raises(type(error)), in_one_line("program"):
        raise error


PRINTS = "from stages import in_one_line\nwith in_one_line('program'):\n    print('a line\\n' * {lines})"


@pytest.mark.parametrize("lines", [1, 100_000])
@pytest.mark.parametrize(
    ("shell", "code", "said"),
    [
        ("{} >/dev/full", 1, "program: No space left on device; make room and run it again"),
        ("({} ; echo $? >&3) 3>code | true; exit $(cat code)", 141, "program: stopped: its output was closed"),
    ],
)
def test_output_that_nobody_takes_is_one_line(lines: int, shell: str, code: int, said: str, tmp_path: Path) -> None:
    (tmp_path / "prints.py").write_text(f"import time\ntime.sleep(0.2)\n{PRINTS.format(lines=lines)}")
    command = shell.format(f"{sys.executable} prints.py")
    there = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, shell=True, cwd=tmp_path, env=there, capture_output=True, text=True, check=False)
    assert done.stderr.splitlines() == [said]
    assert done.returncode == code


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 KiB."""
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "small", tmp_path]).returncode:
        pytest.skip("needs the right to mount a small disk")
    try:
        yield tmp_path
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_a_full_disk_is_one_line_and_leaves_what_was_there(
    small_disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = small_disk / "x.json"
    artifacts.write_json(file, {"a": 1})
    before = file.read_bytes()
    with pytest.raises(SystemExit), in_one_line("program"):
        artifacts.write_json(file, {"a": "b" * 100_000})
    assert capsys.readouterr().err == f"program: {file}: No space left on device; make room and run it again\n"
    assert [(child.name, child.read_bytes()) for child in small_disk.iterdir()] == [("x.json", before)]


def test_a_disk_that_can_only_be_read_is_one_line(small_disk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    for file in (small_disk / "x.json", small_disk / "folder" / "x.json"):
        with pytest.raises(SystemExit), in_one_line("program"):
            artifacts.write_json(file, {"a": 1})
        assert capsys.readouterr().err == f"program: {file}: Read-only file system; make it writable and run it again\n"
    assert list(small_disk.iterdir()) == []


def test_a_folder_that_may_not_be_written_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As a user without rights of its own, where the tests run as root."""
    tmp_path.chmod(0o555)
    user = os.geteuid()
    try:
        if user == 0:
            os.seteuid(65534)
        with pytest.raises(SystemExit), in_one_line("program"):
            artifacts.write_json(tmp_path / "x.json", {"a": 1})
    finally:
        os.seteuid(user)
    said = f"program: {tmp_path}/x.json: Permission denied; give yourself the right to it and run it again\n"
    assert capsys.readouterr().err == said
    assert list(tmp_path.iterdir()) == []


def test_a_folder_and_a_file_in_the_way_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.json").mkdir()
    (tmp_path / "file").touch()
    for file, why in (
        ("x.json", "a folder lies where a file should be"),
        ("file/x.json", "a file lies where a folder"),
    ):
        with pytest.raises(SystemExit), in_one_line("program"):
            artifacts.write_json(tmp_path / file, {"a": 1})
        line = capsys.readouterr().err
        assert line.startswith(f"program: {tmp_path / file}: ")
        assert why in line
    assert sorted(child.name for child in tmp_path.iterdir()) == ["file", "x.json"]


def test_ctrl_c_before_a_stage_has_begun_is_one_line() -> None:
    command = [sys.executable, "-c", "import stages; raise KeyboardInterrupt"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert done.stderr == "interrupted; run it again\n"


COMMANDS = {"latency": ["--repeats", "0"], "predict": ["nowhere", "nowhere"], "sweep": ["--count", "0"]}


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_end_in_one_line(command: str) -> None:
    run = [preloaded.folder() / "python", "-m", f"commands.{command}", *COMMANDS[command]]
    done = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(f"{command}: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("command", COMMANDS)
def test_ctrl_c_while_a_command_imports_what_it_needs_is_one_line(command: str, tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise KeyboardInterrupt")
    run = [sys.executable, "-m", f"commands.{command}", *COMMANDS[command]]
    there = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(run, cwd=ROOT, env=there, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert done.stderr == "interrupted; run it again\n"
