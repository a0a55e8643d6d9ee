"""Where a fleet works: on this machine, behind a scheduler that is there, or behind one that hands out machines.

A worker is a machine, or its share: so many stages at a time, and what these have between them, GPUs and memory.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from socket import gethostname
from typing import Any, NoReturn

from dask.utils import parse_bytes
from distributed import Client, Nanny, Scheduler, SpecCluster
from distributed.system import MEMORY_LIMIT
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from commands.fleet import crowding
from commands.fleet.board import say
from lib.base import environment
from lib.base.errors import BrickyardError

DEAF = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"  # Ctrl-C is for the client, which ends them
WARM = "from commands.fleet import task; task.python()"
WAIT = 60  # seconds until a worker has come


def devices() -> int:
    """How many GPUs of this machine stages may use: none unless BRICKYARD_DEVICE asks for one, one if it says which."""
    device = environment.device()
    if device.type != "cuda" or ":" in os.environ.get("BRICKYARD_DEVICE", ""):
        return int(device.type != "cpu")
    import torch

    return max(1, torch.cuda.device_count())


def resources(memory: int = MEMORY_LIMIT, gpus: int = 0) -> dict[str, float]:
    """What a worker tells the scheduler that it has; memory: in bytes, by default this machine's."""
    return {"MEMORY": memory, **({"GPU": gpus} if gpus else {})}


@contextmanager
def local(count: int) -> Iterator[Client]:
    """A worker on this machine that runs so many stages at a time."""
    own: dict[str, Any] = {"nthreads": count, "memory_limit": 0, "dashboard": False, "preload": [DEAF]}
    own |= {"name": "here", "resources": resources(gpus=devices())}
    scheduler = {"cls": Scheduler, "options": {"dashboard_address": ":0", "host": "127.0.0.1"}}
    with (
        SpecCluster({0: {"cls": Nanny, "options": own}}, scheduler, name="fleet") as cluster,
        Client(cluster) as client,
    ):
        yield client


@contextmanager
def remote(address: str) -> Iterator[Client]:
    """The workers of a scheduler. Raises BrickyardError where it does not answer or has none."""
    try:
        client = Client(address, timeout=10)
    except (OSError, ValueError) as error:
        raise BrickyardError(f"--scheduler {address}: no scheduler answers there ({type(error).__name__})") from None
    with client:
        try:
            client.wait_for_workers(1, timeout=WAIT)
        except TimeoutError:
            raise BrickyardError(
                f"--scheduler {address}: no worker has come within {WAIT} s; on a machine with this checkout: "
                f"./run python -m commands.fleet --join {address}"
            ) from None
        yield client


@contextmanager
def queued(kind: str, file: Path) -> Iterator[Client]:
    """Workers that a batch system starts; kind: slurm, pbs or sge; file: YAML with the options of dask-jobqueue's
    cluster, `jobs`, how many of them, `stages`, how many each runs at a time, and `gpus`, how many each has.
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
        cluster = made(**_options(options))
    except (TypeError, ValueError) as error:
        raise BrickyardError(f"--{kind} {file}: {' '.join(str(error).split())}") from None
    with cluster, Client(cluster) as client:
        cluster.scale(jobs=jobs)
        say(f"waiting for the first of {jobs} jobs")
        client.wait_for_workers(1)
        yield client


def _options(given: dict[str, Any]) -> dict[str, Any]:
    """Of a batch system's cluster, from those of the file: what a worker of a fleet needs, and what is usual."""
    found = {"processes": 1, "cores": 1, "memory": "8GiB", "python": sys.executable, **given}
    stages, gpus = int(found.pop("stages", 1)), int(found.pop("gpus", 0))
    found["worker_extra_args"] = [
        *_arguments(stages, resources(parse_bytes(found["memory"]), gpus)),
        *found.get("worker_extra_args", []),
    ]
    quiet = [f"export {key}={value}" for key, value in crowding.policy(stages, int(found["cores"])).items()]
    found["job_script_prologue"] = [f"cd '{Path.cwd()}'", *quiet, *found.get("job_script_prologue", [])]
    return found


def serve(address: str) -> NoReturn:
    """Becomes a scheduler at an address; tasks are unpickled there, too, so it stands in a checkout."""
    os.execv(sys.executable, [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", address])


def join(address: str, count: int) -> NoReturn:
    """Becomes a worker of a scheduler, in this checkout, for so many stages at a time."""
    own = [*_arguments(count, resources(gpus=devices())), "--death-timeout", str(WAIT)]
    own += ["--name", f"{gethostname()}-{os.getpid()}", "--preload", WARM]
    os.execv(sys.executable, [sys.executable, "-m", "distributed.cli.dask_worker", address, *own])


def _arguments(count: int, own: dict[str, float]) -> list[str]:
    """Of a program that is a worker of Dask."""
    told = ",".join(f"{name}={amount}" for name, amount in own.items())
    return ["--nthreads", str(count), "--memory-limit", "0", "--no-dashboard", "--resources", told]
