"""A fleet of two workers beside a serial `dvc repro`, on the pico job of the tests: time, and the bytes that come out.

All run in checkouts of their own, with `run.threads: 1`, and from nothing.
"""

import hashlib
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Collection, Iterator
from contextlib import ExitStack, chdir, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import psutil
from ruamel.yaml import YAML

from benchmarks.faults.job import Job
from benchmarks.scale.simulation import bound, longest
from commands.fleet.stages import Stage, to_run
from lib.base.code import ROOT

KINDS = ("serial", "warm", "fleet", "one")  # dvc repro; as ./run starts it; the fleet, two stages at a time; one
_KILLED_IN = "assembly"  # the stage that takes longest
_AFTER = 1.0  # seconds of it, until the kill
_WAIT = 300.0  # seconds for what should take a few


@dataclass(frozen=True)
class SpeedUp:
    """seconds: by kind of run, wall time of each, in turn. bound: what a perfect scheduler with two workers would gain
    over the serial run, whose stages each start a Python of their own; path: the stages of its longest way.
    """

    seconds: dict[str, list[float]]
    bound: float
    path: list[str]
    same_hashes: bool

    def gain(self, over: str = "serial") -> float:
        """How many times as quick as another kind two at a time are, by the medians: in all, or by being two alone."""
        return median(self.seconds[over]) / median(self.seconds["fleet"])


@dataclass(frozen=True)
class LostWorker:
    """killed: the worker that died in the middle of a stage; finished: the one that ran it afterwards."""

    killed: str
    finished: str
    same_hashes: bool


def speed_up(repeats: int = 3, kinds: Collection[str] = KINDS) -> SpeedUp:
    """All kinds of runs, in turn. Raises RuntimeError where one fails."""
    took, digests = {kind: list[float]() for kind in kinds}, set[str]()
    gain, path = 0.0, list[str]()
    for _ in range(repeats):
        for kind in kinds:
            with _job() as job:
                with chdir(job.folder):
                    stages = to_run([])
                began = time.monotonic()
                if kind == "warm":
                    serial(job, warm=True)
                elif kind == "serial":
                    alone = serial(job)
                    gain, path = sum(alone.values()) / bound(stages, alone, 2), longest(stages, alone)
                else:
                    _fleet(job.folder, "--local", "2" if kind == "fleet" else "1")
                took[kind].append(time.monotonic() - began)
                digests.add(digest(job.folder))
    return SpeedUp(took, gain, path, len(digests) == 1)


def lost_worker(clones: bool = False) -> LostWorker:
    """Two workers that have joined a scheduler on the loopback address; kill -9 of the one that runs a stage, in the
    middle of it; afterwards everything is compared with a serial run.

    clones: whether client and workers each have a clone, with a folder as the remote of all, in place of one folder.
    Raises RuntimeError where the fleet fails.
    """
    with _job() as serial_job, _job() as job, ExitStack() as ended:
        serial(serial_job)
        folders = _clones(job) if clones else [job.folder] * 2
        scheduler = ended.enter_context(_scheduler())
        workers = [ended.enter_context(_python(folder, "commands.fleet", "--join", scheduler)) for folder in folders]
        pipe = subprocess.PIPE
        with _python(job.folder, "commands.fleet", "--scheduler", scheduler, stdout=pipe, stderr=pipe) as client:
            killed = _killed_in_the_middle(workers, client)
            said, wrong = client.communicate()
        if client.returncode:
            raise RuntimeError(f"the fleet failed: {said[-500:]}{wrong[-500:]}")
        finished = re.search(rf" {_KILLED_IN}: .* s, (\S+)$", said, re.MULTILINE)
        same = digest(job.folder) == digest(serial_job.folder) and job.lock() == serial_job.lock()
        return LostWorker(killed, finished[1] if finished else "", same)


def serial(job: Job, warm: bool = False) -> dict[str, float]:
    """Runs `dvc repro`; seconds from the beginning of each stage to that of the next, or the end.

    warm: as ./run does, with stages that begin in forks of a Python that has imported what they import.
    """
    command = [sys.executable, *(["-m", "commands.warm", sys.executable] if warm else []), "-m", "dvc", "repro"]
    began, pipe, line = dict[str, float](), subprocess.PIPE, ""
    with subprocess.Popen(command, cwd=job.folder, stdout=pipe, stderr=subprocess.STDOUT, text=True) as running:
        assert running.stdout is not None
        for line in running.stdout:
            if found := re.search("Running stage '(.*)'", line):
                began[found[1]] = time.monotonic()
    if running.returncode:
        raise RuntimeError(f"dvc repro: {line}")
    ends = [*began.values(), time.monotonic()][1:]
    return {name: end - start for (name, start), end in zip(began.items(), ends, strict=True)}


def stages_of(networks: int, taken_apart: int = 3, tuned: int = 10) -> list[Stage]:
    """The stages of a job with so many networks, of which some are taken apart for a task each, and candidates."""
    with _job() as job:
        file, yaml = job.folder / "params.yaml", YAML(pure=True)
        params = yaml.load(file)
        names = [f"network_{i}" for i in range(networks)]
        params["zoo"]["models"] = {name: {**params["zoo"]["models"]["low"]} for name in names}
        params["contributions"]["models"] = names[:taken_apart]
        params["components"]["tasks"] = {name: {"model": name, "classes": "0-4"} for name in names[:taken_apart]}
        params["finetune"]["ranks"] = list(range(1, tuned + 1))
        yaml.dump(params, file)
        with chdir(job.folder):
            return to_run([])


def digest(folder: Path) -> str:
    """SHA-256 over names and contents of all artifacts and metrics."""
    found = hashlib.sha256()
    files = (path for top in ("artifacts", "metrics") for path in (folder / top).rglob("*") if path.is_file())
    for file in sorted(file for file in files if file.name != ".gitignore"):  # which DVC writes where it runs a stage
        found.update(f"{file.relative_to(folder)} {hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return found.hexdigest()


@contextmanager
def _job() -> Iterator[Job]:
    with TemporaryDirectory() as folder:
        yield Job(Path(folder, "pico"))


def _clones(job: Job) -> list[Path]:
    """Two copies of a job that has not run, which share a remote with it."""
    job.dvc("remote", "add", "-d", "shared", str(job.folder.with_name("remote")))
    return [Path(shutil.copytree(job.folder, job.folder.with_name(name), symlinks=True)) for name in ("one", "two")]


@contextmanager
def _python(
    folder: Path, *arguments: str, stdout: int | None = None, stderr: int = subprocess.DEVNULL
) -> "Iterator[subprocess.Popen[str]]":
    """A module that runs in a folder, until the end of the block at most."""
    command = [sys.executable, "-m", *arguments]
    with subprocess.Popen(command, cwd=folder, stdout=stdout, stderr=stderr, text=True) as running:
        try:
            yield running
        finally:
            running.terminate()


def _fleet(folder: Path, *arguments: str) -> None:
    command = [sys.executable, "-m", "commands.fleet", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"the fleet failed: {done.stdout[-500:]}{done.stderr[-500:]}")


@contextmanager
def _scheduler() -> Iterator[str]:
    """The address of one on this machine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"tcp://127.0.0.1:{port}"
    with _python(ROOT, "commands.fleet", "--serve", address):
        yield address


def _killed_in_the_middle(workers: "list[subprocess.Popen[str]]", client: "subprocess.Popen[str]") -> str:
    """Kills the worker that has begun with the stage, by force: the name that the fleet has for it."""
    until = time.monotonic() + _WAIT
    while time.monotonic() < until and client.poll() is None:
        for worker in map(psutil.Process, (worker.pid for worker in workers)):
            inside = worker.children(recursive=True)
            if any(_KILLED_IN in _command(process) for process in inside):
                time.sleep(_AFTER)
                for process in (worker, *worker.children()):  # the nanny first, lest it begins another one
                    process.kill()
                return f"{socket.gethostname()}-{worker.pid}"
        time.sleep(0.05)
    client.terminate()
    raise RuntimeError(f"{_KILLED_IN} has not begun: {' '.join(client.communicate())[-500:]}")


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []  # it has just ended
