"""What comes from the environment, since it changes no bits of any result: memory, processes, the device."""

import ctypes
import os
import platform
from functools import cache
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import halving, processes
from .errors import BrickyardError

if TYPE_CHECKING:
    import torch

KEPT = 2**25  # bytes of the largest results whose memory is kept for those that follow; glibc's own limit
_TRIM, _MMAP = -1, -3  # glibc's numbers for its thresholds


def memory() -> int:
    """BRICKYARD_MEMORY, given in GiB (2 by default), in bytes; the processes of a training on this machine share it."""
    text = os.environ.get("BRICKYARD_MEMORY", "2")
    try:
        gibibytes = float(text)
    except ValueError:
        gibibytes = -1
    if not isfinite(gibibytes) or gibibytes < 0:
        raise BrickyardError(f"BRICKYARD_MEMORY = {text!r}: should be a number of GiB, 0 or more")
    return int(gibibytes * 2**30) // processes.local_count()


def workers() -> int:
    """BRICKYARD_WORKERS: processes that decode images, beside this one (0 by default)."""
    text = os.environ.get("BRICKYARD_WORKERS", "0")
    if not text.isdecimal():
        raise BrickyardError(f"BRICKYARD_WORKERS = {text!r}: should be a number of processes, 0 or more")
    return int(text)


def device() -> "torch.device":
    """BRICKYARD_DEVICE: where networks run, are trained and fitted (cpu by default); each of several processes that
    train has a GPU of its own.
    """
    import torch

    text = os.environ.get("BRICKYARD_DEVICE", "cpu")
    if processes.count() > 1:
        text = _own(text, torch.cuda.device_count())
    try:
        return torch.empty(0, device=text).device
    except (RuntimeError, AssertionError) as error:
        if "out of memory" in str(error):
            raise
        here = " or ".join(_devices())
        raise BrickyardError(f"BRICKYARD_DEVICE = {text!r}: no such device here; should be {here}") from None


def _devices() -> list[str]:
    import torch

    cuda = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    return ["cpu", *cuda, *(["mps"] if torch.backends.mps.is_available() else [])]


def keep_memory() -> None:
    """Has glibc keep memory that is freed, and Linux give that of larger results in pages of 2 MiB. Else each operation
    of a network finds its own anew: a tenth of the time of small networks, of large ones more.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # torch asks once, when it first needs memory
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(_TRIM, -1)
        libc.mallopt(_MMAP, KEPT)


def machine() -> dict[str, Any]:
    """What changes last bits of results beside params and code: the device, the processor, its threads, and how many
    images a batch had at most, where memory did not suffice for those asked for.
    """
    import torch

    found = device()
    named = torch.cuda.get_device_name(found) if found.type == "cuda" else found.type
    most = halving.most()
    halved = {} if most is None else {"batch": most}
    return {"device": named, "processor": _processor(), "threads": torch.get_num_threads(), **halved}


@cache
def _processor() -> str:
    """The CPU's name, where the system tells it, and the instructions that torch uses of it."""
    import torch

    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return f"{next(names, platform.machine())}, {torch.backends.cpu.get_cpu_capability()}"


def _own(text: str, gpus: int) -> str:
    """Of this process among several."""
    if text not in ("cpu", "cuda"):
        raise BrickyardError(f"BRICKYARD_DEVICE = {text!r}: should be cuda or cpu for several processes")
    if text == "cuda" and processes.local_count() > gpus > 0:
        raise BrickyardError(
            f"{processes.local_count()} processes on this machine: should be at most {gpus}, one for each GPU"
        )
    return f"cuda:{processes.local_rank()}" if text == "cuda" and gpus else text
