"""Runs a command that ends when nobody holds the other end of standard input: python -m commands.fleet.ending CMD…

So what a worker of a fleet has begun ends with it, whatever has ended that. The exit code is that of the command.
"""

import os
import signal
import subprocess
import sys
from threading import Thread

GRACE = 10.0  # seconds between asking and killing


def main(command: list[str]) -> int:
    """Runs it as the head of a session of its own, whose processes all end with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the client, which ends the worker, which ends this
    running = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    Thread(target=_end, args=(running,), daemon=True).start()
    return running.wait()


def _end(running: "subprocess.Popen[bytes]") -> None:
    """Once standard input has ended."""
    while os.read(0, 1):
        pass
    for how in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(running.pid, how)
            running.wait(GRACE)
        except subprocess.TimeoutExpired:
            continue
        except ProcessLookupError:
            return


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.exit(code if code >= 0 else 128 - code)
