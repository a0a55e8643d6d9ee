"""A Python that has imported already what DVC and the stages import, which takes longer than what small stages do.

It holds no module of this repository: a fork of it imports those, so that code may change while it waits.
"""

import atexit
import gc
import importlib
import json
import os
import runpy
import select
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

OURS = ("stages", "commands", "dvc")
MODULES = (
    *("dvc.cli", "dvc.cli.parser", "dvc.repo", "dvc.repo.stage", "dvc.repo.open_repo", "dvc.repo.metrics", "dvc.scm"),
    *("dvc.repo.params", "dvc.repo.plots", "dvc.repo.artifacts", "dvc.repo.datasets", "dvc.stage.run", "dvc.cachemgr"),
    *("dvc.data_cloud", "dvc.rwlock", "dvc.utils.strictyaml", "dvc_data.hashfile.state", "dvc_data.hashfile.db.local"),
    *("torch", "torch.fx.experimental.symbolic_shapes", "torch.utils.flop_counter", "torch.nn.utils.prune"),
    *("timm.data", "sklearn.datasets", "sklearn.model_selection", "scipy.optimize", "safetensors.torch", "jaxtyping"),
    *("pydantic.type_adapter", "pydantic.dataclasses", "pandas", "pyomo.environ", "highspy", "jinja2"),
    *("matplotlib.figure", "matplotlib.backends.backend_svg"),
)
PYTHON = '#!/bin/sh\nexec {python} -ISs {asking} {address} {ours} "$@"\n'


def begin(ours: Sequence[str] = OURS, modules: Sequence[str] = MODULES) -> Path:
    """A folder to be the first of PATH, with a program `python` that runs modules of `ours` in forks of a server.

    It begins to import now, and what is asked for meanwhile waits; if it ends too early, Python itself runs them. It
    ends with this process, whatever ends that, and the folder with it.
    """
    folder = Path(tempfile.mkdtemp(prefix="python"))
    address, asking = folder / "server", Path(__file__).with_name("asking.py")
    words = {"python": sys.executable, "asking": asking, "address": address, "ours": ",".join(ours)}
    (folder / "python").write_text(PYTHON.format(**{key: shlex.quote(str(word)) for key, word in words.items()}))
    (folder / "python").chmod(0o755)
    pipe = subprocess.PIPE
    command = [sys.executable, __file__, str(address), *modules]
    server = subprocess.Popen(command, stdin=pipe, stdout=pipe, cwd="/")
    atexit.register(_end, server, folder)
    assert server.stdout is not None
    server.stdout.readline()  # from now on it can be asked
    return folder


def possible() -> bool:
    """Whether there can be one: elsewhere than on Linux some libraries do not survive a fork."""
    return sys.platform == "linux"


def found() -> Path | None:
    """The folder of the program `python` that PATH names, where that is a warm one."""
    folder = Path(shutil.which("python") or "").parent
    return folder if (folder / "server").is_socket() else None


def _end(server: "subprocess.Popen[bytes]", folder: Path) -> None:
    server.kill()
    shutil.rmtree(folder, ignore_errors=True)


def serve(address: Path, modules: Sequence[str]) -> None:
    """Until nobody holds the other end of standard input."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for those who have begun this
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(address))
    listener.listen(64)
    os.write(1, b"\n")
    for name in modules:
        with suppress(ImportError):  # who needs it will say so
            importlib.import_module(name)
    gc.collect()
    gc.freeze()  # forks need not look through all this for garbage
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that have answered
    while True:
        ready, _, _ = select.select([listener, 0], [], [])
        if 0 in ready:
            return
        asked, _ = listener.accept()
        with asked, suppress(OSError):  # no memory or process is left: who asks goes to Python itself
            if os.fork() == 0:
                try:
                    _answer(asked)
                finally:
                    os._exit(1)


def _answer(asked: socket.socket) -> None:
    """Runs what is asked for in another fork, so that its end is known whatever it is."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _, files, _, _ = socket.recv_fds(asked, 1, 3)
    arguments, place, environment = json.loads(asked.makefile().readline())
    child = os.fork()
    if child == 0:
        os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for number, file in enumerate(files):
            os.dup2(file, number)
            os.close(file)
        asked.close()
        os._exit(_run(arguments, place, environment))
    for file in files:
        os.close(file)
    asked.sendall(b"begun\n")
    ended = threading.Event()
    threading.Thread(target=_end_with, args=(asked, child, ended), daemon=True).start()
    _, status = os.waitpid(child, 0)
    ended.set()
    with suppress(OSError):
        asked.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
    os._exit(0)


def _end_with(asked: socket.socket, child: int, ended: threading.Event) -> None:
    """Kills the child, and what it has begun, when who asked is no more."""
    with suppress(OSError):
        asked.recv(1)
    for kill in (os.kill, os.killpg):  # it may not lead a group yet
        with suppress(ProcessLookupError):
            if not ended.is_set():
                kill(child, signal.SIGKILL)


def _run(arguments: list[str], place: str, environment: dict[str, str]) -> int:
    """What `python -m` does; the exit code."""
    os.chdir(place)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv[:] = arguments
    sys.path[0:0] = [place, *filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))]
    sys.stdin, sys.stdout = open(0, closefd=False), open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115
    code: Any = 0
    try:
        runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
    except SystemExit as end:
        code = end.code
        if isinstance(code, str):
            print(code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        code = 1
    threading._shutdown()  # pyright: ignore[reportAttributeAccessIssue]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    return code if isinstance(code, int) else 0 if code is None else 1


if __name__ == "__main__":
    here = Path(sys.argv[1])
    del sys.path[0]  # the folder of this file
    try:
        serve(here, sys.argv[2:])
    finally:
        shutil.rmtree(here.parent, ignore_errors=True)
        os._exit(0)  # what libraries would tell of themselves in the end is of no use
