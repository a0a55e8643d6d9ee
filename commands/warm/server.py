"""The server of a warm Python: python server.py ADDRESS FIRST MODULE…; FIRST as of `begin`, -1 for None."""

import atexit
import gc
import importlib
import json
import os
import runpy
import select
import shutil
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any


def serve(address: Path, modules: Sequence[str], first: int | None) -> None:
    """Until nobody holds the other end of standard input."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for those who have begun this
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(address))
    listener.listen(64)
    os.write(1, b"\n")
    left = list(modules)
    if first is None:
        _import(left, 0)
    wanted = len(left) if first is None else max(0, len(left) - first)
    busy = first is None  # whether it imports while nobody asks
    while True:
        ready, _, _ = select.select([listener, 0], [], [], 0 if busy and left else None)
        if 0 in ready:
            return
        if listener not in ready:
            _import(left, len(left) - 1)
            continue
        busy = True
        asked, _ = listener.accept()
        _import(left, wanted)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that have answered
        with asked, suppress(OSError):  # no memory or process is left: who asks goes to Python itself
            if os.fork() == 0:
                try:
                    _answer(asked)
                finally:
                    os._exit(1)


def _import(left: list[str], most: int) -> None:
    """Modules, in order, until at most so many are left."""
    while len(left) > most:
        with suppress(ImportError):  # who needs it will say so
            importlib.import_module(left.pop(0))
        if not left:
            gc.collect()
            gc.freeze()  # forks need not look through all this for garbage


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
    """Tells the child of signals; kills it, and what it has begun, when who asked is no more."""
    with suppress(OSError):
        while told := asked.recv(1):
            _kill(child, told[0], ended)
    _kill(child, signal.SIGKILL, ended)


def _kill(child: int, number: int, ended: threading.Event) -> None:
    """Sends a signal to a process and those of its group, which it may not lead yet."""
    for kill in (os.killpg, os.kill) if number != signal.SIGKILL else (os.kill, os.killpg):
        with suppress(ProcessLookupError):
            if not ended.is_set():
                kill(child, number)
                if kill is os.killpg:
                    return


def _run(arguments: list[str], place: str, environment: dict[str, str]) -> int:
    """What `python -m` does; the exit code."""
    os.chdir(place)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv[:] = arguments
    own = [] if environment.get("PYTHONSAFEPATH") else [place]
    sys.path[0:0] = [*own, *filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))]
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
        serve(here, sys.argv[3:], None if sys.argv[2] == "-1" else int(sys.argv[2]))
    finally:
        shutil.rmtree(here.parent, ignore_errors=True)
        os._exit(0)  # what libraries would tell of themselves in the end is of no use
