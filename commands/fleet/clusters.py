"""Where a fleet works: on this machine, behind a scheduler that is there, or behind one that hands out machines."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from distributed import Client, Nanny, Scheduler, SpecCluster
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from lib.base import environment
from lib.base.errors import BrickyardError

DEAF = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"  # Ctrl-C is for the client, which ends them
WAIT = 60  # seconds until a worker has come


def devices() -> int:
    """How many GPUs of this machine stages may use: none unless BRICKYARD_DEVICE asks for one."""
    if environment.device().type == "cpu":
        return 0
    import torch

    return max(1, torch.cuda.device_count())


@contextmanager
def local(count: int) -> Iterator[Client]:
    """So many workers on this machine, each with one stage at a time; as many as there are GPUs have one each."""
    gpus = devices()
    common = {"nthreads": 1, "memory_limit": 0, "dashboard": False, "preload": [DEAF]}
    workers = {}
    for i in range(count):
        own: dict[str, Any] = {**common, "name": f"worker {i + 1}"}
        if i < gpus:
            own |= {"resources": {"GPU": 1}, "env": {"CUDA_VISIBLE_DEVICES": str(i)}}
        workers[i] = {"cls": Nanny, "options": own}
    scheduler = {"cls": Scheduler, "options": {"dashboard_address": ":0", "host": "127.0.0.1"}}
    with SpecCluster(workers, scheduler, name="fleet") as cluster, Client(cluster) as client:
        yield client


@contextmanager
def remote(address: str) -> Iterator[Client]:
    """The workers of a scheduler. Raises BrickyardError where it does not answer or has none."""
    try:
        client = Client(address, timeout=10)
    except (OSError, ValueError) as error:
        raise BrickyardError(f"--scheduler {address}: no scheduler answers there ({type(error).__name__})") from None
    with client:
        _wait(client, f"--scheduler {address}")
        yield client


@contextmanager
def queued(kind: str, file: Path) -> Iterator[Client]:
    """Workers that a batch system starts; kind: slurm, pbs or sge; file: YAML with the options of dask-jobqueue's
    cluster, and `jobs`, how many of them.
    """
    try:
        import dask_jobqueue  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise BrickyardError(f"--{kind} needs dask-jobqueue: ./.venv/bin/python -m pip install dask-jobqueue") from None
    try:
        options = YAML(typ="safe", pure=True).load(file)
    except (OSError, YAMLError) as error:
        raise BrickyardError(f"--{kind} {file}: {' '.join(str(error).split())}") from None
    if not isinstance(options, dict) or not isinstance(jobs := options.pop("jobs", None), int):
        raise BrickyardError(f"--{kind} {file}: should hold `jobs: 4` and options of dask-jobqueue, such as `queue`")
    made = getattr(dask_jobqueue, f"{kind.upper()}Cluster")
    try:
        cluster = made(**{"processes": 1, "cores": 1, "memory": "8GiB", **options})
    except (TypeError, ValueError) as error:
        raise BrickyardError(f"--{kind} {file}: {' '.join(str(error).split())}") from None
    with cluster, Client(cluster) as client:
        cluster.scale(jobs=jobs)
        _wait(client, f"--{kind} {file}")
        yield client


def join(address: str) -> NoReturn:
    """Becomes a worker of a scheduler, in this checkout, for one stage at a time."""
    own = ["--nthreads", "1", "--memory-limit", "0", "--no-dashboard", "--death-timeout", str(WAIT)]
    if gpus := devices():
        own += ["--resources", f"GPU={gpus}"]
    os.execv(sys.executable, [sys.executable, "-m", "distributed.cli.dask_worker", address, *own])


def _wait(client: Client, what: str) -> None:
    try:
        client.wait_for_workers(1, timeout=WAIT)
    except TimeoutError:
        raise BrickyardError(
            f"{what}: no worker has come within {WAIT} s; on a machine with this checkout: "
            "./run python -m commands.fleet --join ADDRESS"
        ) from None
