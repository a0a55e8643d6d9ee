"""What `python` is where a Python has been warmed up (`warm`): the front of a module that runs in a fork of that.

    python -ISs asking.py ADDRESS OURS ARGUMENTS…

`-m` and a module of a package of OURS go to the server at ADDRESS; all else, and these too where the server does not
answer, to Python itself. What runs there has this process's arguments, environment, folder and files, is told of
Ctrl-C, and ends with it.
"""

import json
import os
import signal
import socket
import sys


def main(address: str, ours: str, given: list[str]) -> int:
    """The exit code of the module, or the negative number of the signal that has ended it."""
    if given[:1] == ["-m"] and given[1].split(".")[0] in ours.split(","):
        code = _asked(address, given[1:])
        if code is not None:
            return code
    os.execv(sys.executable, [sys.executable, *given])


def _asked(address: str, arguments: list[str]) -> int | None:
    """None where nothing has begun."""
    server = socket.socket(socket.AF_UNIX)
    try:
        server.connect(address)
        socket.send_fds(server, [b"0"], [0, 1, 2])
        server.sendall(json.dumps([arguments, os.getcwd(), dict(os.environ)]).encode() + b"\n")  # noqa: PTH109
        answer = server.makefile("rb")
        if not answer.readline():  # else it has begun, and must not begin a second time
            return None
    except OSError:
        return None
    signal.signal(signal.SIGINT, lambda number, _: server.sendall(bytes([number])))
    return int(answer.readline() or 1)


if __name__ == "__main__":
    code = main(sys.argv[1], sys.argv[2], sys.argv[3:])
    if code < 0:
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    sys.exit(code)
