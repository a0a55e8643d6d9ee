"""A warm Python runs a module as Python does, and what runs there ends with who has asked for it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from commands import warm
from lib.base.code import ROOT
from tests import preloaded

MODULES = {
    "told": "import sys; print(__name__, sys.argv[1:], sys.stdin.read()); print('wrong', file=sys.stderr); sys.exit(3)",
    "ends": "import atexit, sys; atexit.register(print, 'last'); sys.exit('a word')",
    "killed": "import os; os.kill(os.getpid(), 11)",
    "waits": "import os, subprocess; subprocess.Popen(['sleep', '600']); print(os.getpid(), flush=True); os.wait()",
    "learns": (
        "import time\ntry:\n    print('begun', flush=True); time.sleep(600)\n"
        "except KeyboardInterrupt:\n    print('kept', flush=True); raise SystemExit(130)"
    ),
    "knows": "import sys; print('torch' in sys.modules, 'matplotlib.figure' in sys.modules)",
    "counts": "import torch; torch.set_num_threads(2); x = torch.ones(512, 512); print((x @ x).sum().item())",
}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with a package of the name of one that is run there."""
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages" / "__init__.py").touch()
    for name, text in MODULES.items():
        (tmp_path / "stages" / f"{name}.py").write_text(text)
    return tmp_path


def _python(place: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(preloaded.folder() / "python"), *arguments]
    return subprocess.run(command, cwd=place, input="in", capture_output=True, text=True, check=False)


def test_a_module_has_its_arguments_files_and_exit_code(place: Path) -> None:
    done = _python(place, "-m", "stages.told", "a b", "é")
    assert (done.returncode, done.stdout, done.stderr) == (3, "__main__ ['a b', 'é'] in\n", "wrong\n")
    done = _python(place, "-m", "stages.ends")
    assert (done.returncode, done.stdout, done.stderr) == (1, "last\n", "a word\n")
    assert _python(place, "-m", "stages.killed").returncode == -signal.SIGSEGV
    assert "No module named stages.nothing" in _python(place, "-m", "stages.nothing").stderr


def test_several_threads_survive_the_fork(place: Path) -> None:
    assert _python(place, "-m", "stages.counts").stdout == f"{512.0**3}\n"


def test_all_else_is_for_python_itself(place: Path) -> None:
    (place / "other.py").write_text("print('other')")
    assert _python(place, "-m", "other").stdout == "other\n"
    assert _python(place, "-c", "import sys; print('torch' in sys.modules)").stdout == "False\n"


def test_code_that_has_changed_is_run(place: Path) -> None:
    (place / "stages" / "ends.py").write_text("print('new')")
    assert _python(place, "-m", "stages.ends").stdout == "new\n"


def test_what_runs_ends_with_who_has_asked(place: Path) -> None:
    command = [str(preloaded.folder() / "python"), "-m", "stages.waits"]
    with subprocess.Popen(command, cwd=place, stdout=subprocess.PIPE, text=True) as asking:
        assert asking.stdout is not None
        inside = psutil.Process(int(asking.stdout.readline()))
        both = [inside, *inside.children()]
        assert len(both) == 2
        asking.kill()
        psutil.wait_procs(both, timeout=10)
        assert not any(process.is_running() for process in both)


def test_where_nobody_answers_python_itself_does(place: Path) -> None:
    folder = warm.begin(modules=["nothing.of.this.name"])
    server = next(one for one in psutil.Process().children() if str(folder / "server") in one.cmdline())
    command = [str(folder / "python"), "-m", "stages.ends"]
    for kill in (False, True):
        if kill:
            server.kill()
            server.wait(10)
        assert subprocess.run(command, cwd=place, capture_output=True, text=True).stdout == "last\n"


def test_a_server_ends_with_who_has_begun_it(place: Path) -> None:
    script = "from commands import warm; print(warm.begin(modules=[]), flush=True); import time; time.sleep(600)"
    command = [str(preloaded.folder() / "python"), "-c", script]
    with subprocess.Popen(command, cwd=Path(warm.__file__).parents[2], stdout=subprocess.PIPE, text=True) as began:
        assert began.stdout is not None
        folder = Path(began.stdout.readline().strip())
        assert (folder / "server").is_socket()
        os.kill(began.pid, signal.SIGKILL)
    until = time.monotonic() + 10
    while folder.exists() and time.monotonic() < until:
        time.sleep(0.01)
    assert not folder.exists()


def test_ctrl_c_is_told_to_what_runs(place: Path) -> None:
    command = [str(preloaded.folder() / "python"), "-m", "stages.learns"]
    with subprocess.Popen(command, cwd=place, stdout=subprocess.PIPE, text=True) as asking:
        assert asking.stdout is not None
        assert asking.stdout.readline() == "begun\n"
        asking.send_signal(signal.SIGINT)
        assert asking.stdout.read() == "kept\n"
    assert asking.returncode == 130


def test_a_program_has_warm_stages_and_nothing_is_left_of_them(place: Path) -> None:
    script = f"cd {place}; python -m stages.knows; command -v python; sleep 3; python -m stages.knows; exit 3"
    command = [sys.executable, "-m", "commands.warm", "sh", "-c", script]
    path = os.environ["PATH"].split(os.pathsep)
    there = {**os.environ, "PATH": os.pathsep.join(one for one in path if not (Path(one) / "server").exists())}
    done = subprocess.run(command, cwd=ROOT, env=there, capture_output=True, text=True, check=False)
    first, python, second = done.stdout.splitlines()
    assert (done.returncode, done.stderr) == (3, "")
    assert first == "True False", "what nearly every stage imports"
    assert second.startswith("True "), "and more, while nothing was asked"
    until = time.monotonic() + 30
    while Path(python).parent.exists() and time.monotonic() < until:
        time.sleep(0.05)
    assert not Path(python).parent.exists()
