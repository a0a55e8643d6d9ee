"""What a worker of a fleet does: one stage, in the checkout in which the worker was started."""

import hashlib
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from distributed import get_worker
from distributed.worker import logger

LOGS = Path(".scratch/fleet")
BLOCKED = 60.0  # seconds that a stage waits for the end of one that was killed
FILES = ("dvc.yaml", "params.yaml", "versions.yaml", "requirements.lock")
CODE = ("lib/**/*", "stages/**/*", "data/models/**/*.py")  # weights lie there, too: DVC compares them
TOPIC = "stages"  # of what workers tell the client

_stopped = set[str]()  # fleets whose client has gone


class StageFailed(Exception):
    """A stage that has ended otherwise than well: its name, and the last line that it has said."""


@dataclass(frozen=True)
class Done:
    """A stage that has run, or had nothing to do; seconds: how long that took."""

    name: str
    seconds: float


def checkout() -> str:
    """SHA-256 over params, DAG, environment and code of the folder that a process stands in."""
    found = hashlib.sha256()
    inside = (file for pattern in CODE for file in Path().glob(pattern) if "__pycache__" not in file.parts)
    for file in sorted(file for file in (*map(Path, FILES), *inside) if file.is_file()):
        found.update(f"{file.as_posix()} {hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return found.hexdigest()


def stop(fleet: str) -> None:
    """Ends what runs on this worker for a fleet."""
    _stopped.add(fleet)


def run(name: str, expected: str, fleet: str, *_before: Done) -> Done:
    """Runs a stage as `dvc repro --single-item` does, until it ends or `stop` is called.

    expected: what `checkout` says where the fleet was started.
    Raises StageFailed.
    """
    worker, began = get_worker(), time.monotonic()
    if checkout() != expected:
        raise StageFailed(name, f"{worker.name} has other params or code than this checkout")
    worker.log_event(TOPIC, {"stage": name, "by": str(worker.name)})
    log = LOGS / f"{name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "dvc", "--wait-for-lock", "repro", "--single-item", name]
    while True:
        with log.open("w") as said:
            code = _watched([sys.executable, "-m", "commands.fleet.ending", *command], said.fileno(), fleet)
        told = log.read_text()
        if code == 0:
            return Done(name, time.monotonic() - began)
        if "being blocked by" not in told or time.monotonic() - began > BLOCKED:
            break
        logger.info("%s waits for another process", name)
        time.sleep(1)
    raise StageFailed(name, "stopped" if fleet in _stopped else _reason(told))


def _watched(command: list[str], output: int, fleet: str) -> int:
    """Its exit code; it ends with this process and when the fleet is stopped."""
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=output, stderr=output) as running:
        assert running.stdin is not None
        while True:
            try:
                return running.wait(1.0)
            except subprocess.TimeoutExpired:
                if fleet in _stopped:
                    running.stdin.close()


def _reason(told: str) -> str:
    """The last line of a stage that is not DVC's."""
    lines = [line for line in map(str.strip, told.splitlines()) if line]
    own = [line for line in lines if not line.startswith("ERROR: failed to reproduce")]
    return (own or lines or ["failed"])[-1]
