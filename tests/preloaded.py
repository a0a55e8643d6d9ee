"""A Python that has imported torch and DVC already: tests run scores of stages, each in a process of its own, and
importing them takes longer than what most stages do.

`folder()` holds a program `python`. Given a module of ours, or dvc, it asks a server of this process for a fork of
itself that runs it, with the same arguments, environment, folder and files, and ends as that does; all else it hands to
Python.
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
import traceback
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

OURS = ("stages", "commands", "benchmarks", "dvc")
PRELOADED = (
    *("torch", "torch._dynamo", "torch.fx.experimental.symbolic_shapes", "timm.data", "sklearn.datasets"),
    *("scipy.optimize", "pandas", "pyomo.environ", "matplotlib.figure", "matplotlib.backends.backend_svg"),
    *("dvc.cli", "dvc.cli.parser", "dvc.repo", "dvc.stage.run", "dvc_data.hashfile.state"),
)
PYTHON = """\
#!/bin/sh
exec {python} -ISs {client} "$@"
"""
CLIENT = """\
import json, os, signal, socket, sys
given = sys.argv[1:]
if given[:1] != ["-m"] or given[1].split(".")[0] not in {ours!r}:
    os.execv({python!r}, [{python!r}, *given])
server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
socket.send_fds(server, [b"0"], [0, 1, 2])
server.sendall(json.dumps([given[1:], os.getcwd(), dict(os.environ)]).encode() + b"\\n")
code = int(server.makefile().readline())
if code < 0:
    signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)
sys.exit(code)
"""


@cache
def folder() -> Path:
    """To be the first of PATH. The server ends with this process."""
    found = Path(tempfile.mkdtemp(prefix="python"))
    atexit.register(shutil.rmtree, found, ignore_errors=True)
    address, client = str(found / "server"), found / "client.py"
    client.write_text(CLIENT.format(ours=OURS, python=sys.executable, address=address))
    (found / "python").write_text(PYTHON.format(python=shlex.quote(sys.executable), client=shlex.quote(str(client))))
    (found / "python").chmod(0o755)
    pipe = subprocess.PIPE
    server = subprocess.Popen([sys.executable, __file__, address], stdin=pipe, stdout=pipe, cwd="/")
    assert server.stdout is not None
    assert server.stdout.readline() == b"ready\n"
    return found


def run(place: Path, module: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs a module in a folder, and what it starts from the PATH, with a few variables more."""
    path = f"{folder()}{os.pathsep}{os.environ['PATH']}"
    there = {**os.environ, "PATH": path, **environment}
    command = [str(folder() / "python"), "-m", module, *arguments]
    return subprocess.run(command, cwd=place, env=there, capture_output=True, text=True, check=False)


def _serve(address: str) -> None:
    """Until nobody holds the other end of its standard input."""
    for name in PRELOADED:
        importlib.import_module(name)
    gc.freeze()  # forks need not look through all this for garbage
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that have answered
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen(16)
    os.write(1, b"ready\n")
    while True:
        ready, _, _ = select.select([listener, sys.stdin], [], [])
        if sys.stdin in ready:
            return
        asked, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            _answer(asked)
        asked.close()


def _answer(asked: socket.socket) -> NoReturn:
    """Runs what is asked for in another fork, so that its end is known whatever it is."""
    _, files, _, _ = socket.recv_fds(asked, 1, 3)
    arguments, place, environment = json.loads(asked.makefile().readline())
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    child = os.fork()
    if child == 0:
        for number, file in enumerate(files):
            os.dup2(file, number)
            os.close(file)
        asked.close()
        os._exit(_run(arguments, place, environment))
    _, status = os.waitpid(child, 0)
    asked.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
    os._exit(0)


def _run(arguments: list[str], place: str, environment: dict[str, str]) -> int:
    """What `python -m` does; the exit code."""
    os.chdir(place)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv, sys.path[0:1] = list(arguments), [place, *environment.get("PYTHONPATH", place).split(os.pathsep)]
    sys.stdin, sys.stdout = open(0, closefd=False), open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115
    code: Any = 0
    try:
        runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
    except SystemExit as end:
        code = end.code
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return code if isinstance(code, int) else 0 if code is None else 1


if __name__ == "__main__":
    _serve(sys.argv[1])
