"""What a worker of a fleet does: stages, in the checkout in which the worker was started."""

import hashlib
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from queue import SimpleQueue
from threading import Lock

from distributed import Reschedule, get_worker
from distributed.worker import logger

from commands import SCRATCH, warm
from commands.fleet import ending
from commands.fleet.apart import Job, Made, reads

PLACE = SCRATCH / "fleet"
BLOCKED = 60.0  # seconds that a stage waits for the end of one that was killed
FILES = ("dvc.yaml", "params.yaml", "versions.yaml", "requirements.lock")
CODE = ("lib/**/*", "stages/**/*", "commands/fleet/*.py", "data/models/**/*.py")  # weights lie there, too: DVC has them
TOPIC = "stages"  # of what workers tell the client

_once = Lock()
_looked = set[str]()  # fleets in which this worker can take part
_stopped = set[str]()  # fleets whose client has gone


class StageFailed(Exception):
    """A stage that has ended otherwise than well: its name, and the last line that it has said."""


@dataclass(frozen=True)
class Done:
    """A stage that has run, or had nothing to do; seconds: how long that took; made: where the worker has a folder of
    its own, what the client has to know.
    """

    name: str
    seconds: float
    made: Made | None


@dataclass(frozen=True)
class Asked:
    """A stage that a worker is to run for a fleet; checkout: what it says where the fleet was started; job: where
    workers have folders of their own; gpu: whether it uses one.
    """

    name: str
    fleet: str
    checkout: str
    gpu: bool
    job: Job | None


def checkout() -> str:
    """SHA-256 over params, DAG, environment and code of the folder that a process stands in."""
    found = hashlib.sha256()
    inside = (file for pattern in CODE for file in Path().glob(pattern) if "__pycache__" not in file.parts)
    for file in sorted(file for file in (*map(Path, FILES), *inside) if file.is_file()):
        found.update(f"{file.as_posix()} {hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return found.hexdigest()


def signature(fleet: str) -> Path:
    """A file that the client of a fleet leaves in its folder: who sees it, shares that."""
    return PLACE / f"{fleet}.client"


def look(fleet: str) -> tuple[str, bool]:
    """What `checkout` says here, and whether this is the client's own folder; begins what saves time later."""
    python()
    _looked.add(fleet)
    return checkout(), signature(fleet).exists()


def stop(fleet: str) -> None:
    """Ends what runs on this worker for a fleet."""
    _stopped.add(fleet)


def run(asked: Asked) -> Done:
    """Runs a stage until it ends or `stop` is called. Raises StageFailed.

    A worker that has joined while the fleet runs, and cannot take part, leaves, and another one runs the stage.
    """
    try:
        if asked.fleet not in _looked and (why := _differs(asked)):
            worker = get_worker()
            worker.log_event(TOPIC, {"stage": None, "by": str(worker.name), "why": why})
            worker.loop.add_callback(worker.close_gracefully, reason=why)
            raise Reschedule
        _looked.add(asked.fleet)
        return _run(asked)
    except (StageFailed, Reschedule):
        raise
    except Exception as error:  # of the worker: a full disk, too many processes
        raise StageFailed(asked.name, " ".join(f"{type(error).__name__}: {error}".split())) from None


def _run(asked: Asked) -> Done:
    worker, began = get_worker(), time.monotonic()
    if checkout() != asked.checkout:
        raise StageFailed(asked.name, "params or code have changed since the fleet was started")
    worker.log_event(TOPIC, {"stage": asked.name, "by": str(worker.name)})
    PLACE.mkdir(parents=True, exist_ok=True)
    log, given, made = (PLACE / f"{asked.name}{suffix}" for suffix in (".log", ".given", ".made"))
    command = ["commands.dvc", "--wait-for-lock", "repro", "--single-item", asked.name]
    if asked.job:
        given.write_bytes(pickle.dumps(asked.job))
        command = ["commands.fleet.clone", asked.name, str(given), str(made)]
    while True:
        with log.open("w") as said, _device(asked.gpu) as device:
            code = _watched(command, said.fileno(), device, asked.fleet)
        told = log.read_text()
        if code == 0:
            result = pickle.loads(made.read_bytes()) if asked.job else None
            for file in (given, made):
                file.unlink(missing_ok=True)
            return Done(asked.name, time.monotonic() - began, result)
        if "being blocked by" not in told or time.monotonic() - began > BLOCKED:
            break
        logger.info("%s waits for another process", asked.name)
        time.sleep(1)
    raise StageFailed(asked.name, "stopped" if asked.fleet in _stopped else _reason(told))


def _differs(asked: Asked) -> str:
    """Why this worker cannot take part in a fleet; empty where it can."""
    if checkout() != asked.checkout:
        return "it has other params or code than this checkout"
    if asked.job:
        return reads(asked.fleet)
    return "" if signature(asked.fleet).exists() else "it has a folder of its own, and the others share this one"


@cache
def python() -> Path:
    """The folder whose `python` runs DVC and stages, by a warm one where there is one already or can be."""
    return warm.found() or (warm.begin() if warm.possible() else Path(sys.executable).parent)


def _watched(command: list[str], output: int, device: dict[str, str], fleet: str) -> int:
    """The exit code of a module; it ends with this process and when the fleet is stopped."""
    environment = {**os.environ, **device, "PATH": f"{python()}{os.pathsep}{os.environ['PATH']}"}
    whole = [sys.executable, "-ISs", ending.__file__, f"{python()}/python", "-m", *command]
    with subprocess.Popen(whole, stdin=subprocess.PIPE, stdout=output, stderr=output, env=environment) as running:
        assert running.stdin is not None
        while True:
            try:
                return running.wait(1.0)
            except subprocess.TimeoutExpired:
                if fleet in _stopped:
                    running.stdin.close()


@contextmanager
def _device(gpu: bool) -> Iterator[dict[str, str]]:
    """What a stage that uses a GPU must have in its environment where the worker has several: one that is free."""
    with _once:
        devices = _devices()
    if not gpu or devices.empty():
        yield {}
        return
    own = devices.get()
    try:
        yield {"CUDA_VISIBLE_DEVICES": own}
    finally:
        devices.put(own)


@cache
def _devices() -> SimpleQueue[str]:
    """The GPUs that this worker hands out, as CUDA_VISIBLE_DEVICES names them; of a single one none."""
    count = int(get_worker().state.total_resources.get("GPU", 0))
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names, found = visible.split(",") if visible else list(map(str, range(count))), SimpleQueue[str]()
    for name in names[:count] if count > 1 else []:
        found.put(name)
    return found


def _reason(told: str) -> str:
    """The last line of a stage that is not DVC's."""
    lines = [line for line in map(str.strip, told.splitlines()) if line]
    own = [line for line in lines if not line.startswith("ERROR: failed to reproduce")]
    return (own or lines or ["failed"])[-1].removeprefix("fleet: ")
