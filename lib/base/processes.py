"""Several processes of one training: which of them this is, and the start of the others on this machine.

Which it is stands in RANK, WORLD_SIZE, LOCAL_RANK and LOCAL_WORLD_SIZE, where every launcher of PyTorch writes it:
`accelerate launch`, torchrun, and `together` here.
"""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from .errors import BrickyardError

GRACE = 10.0  # seconds until this process ends with another one that has failed
LOST = re.compile("gloo|nccl|connection|peer|socket|broken pipe", re.IGNORECASE)  # how the loss of another one is told
_STARTED = "BRICKYARD_STARTED"  # set for the others


def count() -> int:
    """How many there are, on all machines."""
    return int(os.environ.get("WORLD_SIZE", "1")) if "RANK" in os.environ else 1


def rank() -> int:
    """Which one this is, from 0; the first writes what is made."""
    return int(os.environ["RANK"]) if count() > 1 else 0


def local_count() -> int:
    """How many there are on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", count())) if count() > 1 else 1


def local_rank() -> int:
    """Which one of this machine this is, from 0."""
    return int(os.environ.get("LOCAL_RANK", rank())) if count() > 1 else 0


def wanted() -> int:
    """BRICKYARD_PROCESSES: how many processes of this machine train one network (1 by default)."""
    text = os.environ.get("BRICKYARD_PROCESSES", "1")
    if not re.fullmatch("[0-9]{1,4}", text) or int(text) < 1:
        raise BrickyardError(f"BRICKYARD_PROCESSES = {text!r}: should be a number of processes, 1 or more")
    return int(text)


@contextmanager
def together(module: str) -> Iterator[None]:
    """Inside, this process is the first of BRICKYARD_PROCESSES, unless a launcher has said already which one it is. The
    others run `python -m module` with the same arguments, and end when this one ends, however it does.

    Raises BrickyardError where another process fails; where this one would then wait for it for ever, it ends with that
    line and exit code 1.
    """
    if os.environ.get(_STARTED):
        threading.Thread(target=_end_with_the_first, daemon=True).start()
    if "RANK" in os.environ or wanted() == 1:
        yield
        return
    before = dict(os.environ)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    others = _Others(module, wanted())
    os.environ |= _named(0, wanted())
    try:
        yield
        others.wait()
    except RuntimeError as error:
        if LOST.search(str(error)) and (told := others.failure(GRACE)) is not None:
            raise BrickyardError(told) from error
        raise
    finally:
        others.end()
        os.environ.clear()
        os.environ.update(before)


def leave() -> None:
    """Takes leave of the others, where training has joined this process with them."""
    distributed = sys.modules.get("torch.distributed")
    if count() > 1 and distributed is not None and distributed.is_initialized():
        distributed.destroy_process_group()


def _named(rank: int, count: int) -> dict[str, str]:
    own = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
    return {name: str(number) for name, number in own.items()}


def _end_with_the_first() -> None:
    """Its end of the pipe closes when it ends, even when it is killed."""
    os.read(sys.stdin.fileno(), 1)
    os._exit(1)


class _Others:
    """The processes beside the first; what they print is kept from the terminal."""

    def __init__(self, module: str, count: int) -> None:
        self._name = module.rpartition(".")[2]
        self._folder, self._ended = (
            TemporaryDirectory(prefix="processes-", ignore_cleanup_errors=True),
            threading.Event(),
        )
        self._running = [self._start(module, rank, count) for rank in range(1, count)]
        threading.Thread(target=self._watch, daemon=True).start()

    def _start(self, module: str, rank: int, count: int) -> subprocess.Popen[bytes]:
        with self._said(rank).open("wb") as said:
            return subprocess.Popen(
                [sys.executable, "-m", module, *sys.argv[1:]],
                env=dict(os.environ) | _named(rank, count) | {_STARTED: "1"},
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=said,
            )

    def _said(self, rank: int) -> Path:
        return Path(self._folder.name, str(rank))

    def failure(self, seconds: float = 0.0) -> str | None:
        """What has ended one of them, in a line; None where none has failed within that time."""
        until = time.monotonic() + seconds
        while True:
            told = [self._told(i, other.poll() or 0) for i, other in enumerate(self._running, 1) if other.poll()]
            if told:
                return min(told, key=lambda line: LOST.search(line) is not None)
            if time.monotonic() >= until:
                return None
            time.sleep(0.1)

    def _told(self, rank: int, code: int) -> str:
        who = f"process {rank + 1} of {len(self._running) + 1}"
        if code < 0:
            return (
                f"{who} was ended by {signal.Signals(-code).name}; run it again: training goes on from its last epoch"
            )
        lines = self._said(rank).read_text(errors="replace").split("\n")
        last = [line.strip() for line in lines if line.strip()][-1:]
        return f"{who}: {last[0].removeprefix(f'{self._name}: ')}" if last else f"{who} ended with exit code {code}"

    def wait(self) -> None:
        """Until all have ended."""
        for other in self._running:
            other.wait()
        if (told := self.failure()) is not None:
            raise BrickyardError(told)

    def end(self) -> None:
        """Ends those that still run."""
        self._ended.set()
        for other in self._running:
            other.kill()
            other.wait()
            if other.stdin is not None:
                other.stdin.close()
        self._folder.cleanup()

    def _watch(self) -> None:
        """The first may wait for ever, in code that nothing interrupts, for one that has failed."""
        while not self._ended.wait(0.5):
            told = self.failure()
            if told is not None and not self._ended.wait(GRACE):
                print(f"{self._name}: {told}", file=sys.stderr, flush=True)
                self.end()
                os._exit(1)
