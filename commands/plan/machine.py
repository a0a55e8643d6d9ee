"""What this machine does in a second, measured in a second, and what room it has left."""

import os
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from tempfile import NamedTemporaryFile

import psutil
import torch
from torch.nn import functional as F

from commands import warm
from lib.base import environment, usage

SPENT = 0.08  # seconds on each measurement
WRITTEN = 2**25  # bytes that are written to tell how fast that goes
GROUPS = Path("/sys/fs/cgroup")  # where Linux says what a container may use


@dataclass(frozen=True)
class Work:
    """What has to be done, apart from how fast that goes.

    macs, moved, calls: of networks: multiply-accumulates, bytes that their operations read and write, operations.
    afresh: bytes of operations whose results are so large that the system has to find memory for each anew.
    products: multiply-accumulates of matrix products in float32, of which one in float64 is worth two.
    decoded: images that are read and scaled.
    written: bytes that are written to disk, or read from it and verified.
    traced: operations of networks that are followed on shapes.
    begun: processes of stages.
    started: of all else, in times that importing what stages need takes.
    """

    macs: float = 0.0
    moved: float = 0.0
    afresh: float = 0.0
    calls: float = 0.0
    products: float = 0.0
    decoded: float = 0.0
    written: float = 0.0
    traced: float = 0.0
    begun: float = 0.0
    started: float = 0.0

    def __add__(self, other: "Work") -> "Work":
        return Work(*(getattr(self, one.name) + getattr(other, one.name) for one in fields(self)))

    def __mul__(self, times: float) -> "Work":
        return Work(*(times * getattr(self, one.name) for one in fields(self)))

    __rmul__ = __mul__


@dataclass(frozen=True)
class Rates:
    """What a device does in a second: multiply-accumulates of convolutions, bytes through small operations and through
    those with large results; and how many seconds the call of an operation costs.
    """

    macs: float
    moved: float
    afresh: float
    call: float


@dataclass(frozen=True)
class Machine:
    """What a second buys here.

    networks: on the device of BRICKYARD_DEVICE; processor: on the CPU.
    products: multiply-accumulates of large matrix products in a second, on the CPU.
    decoded: seconds an image.
    written: bytes in a second.
    begun: seconds until a stage's process has what it needs: few, where one that has imported that can be forked.
    started: seconds that importing it takes.
    held: bytes that such a process holds by then.
    """

    networks: Rates
    processor: Rates
    products: float
    decoded: float
    written: float
    begun: float
    started: float
    held: int

    def seconds(self, work: Work, on_device: bool) -> float:
        """How long it takes; on_device: whether networks run on the device of BRICKYARD_DEVICE."""
        own = self.networks if on_device else self.processor
        bytes_in = work.moved / own.moved + work.afresh / own.afresh
        networks = work.macs / own.macs + bytes_in + work.calls * own.call
        others = work.products / self.products + work.decoded * self.decoded + work.written / self.written
        processes = work.begun * self.begun + work.started * self.started
        return networks + others + work.traced * TRACED * self.processor.call + processes


AFRESH = 2**25  # bytes from which on memory is given back to the system, and taken from it again
CALLED = 20  # times a call of the smallest operation, what one of a network costs beside its own work
TRACED = 200  # calls that following an operation on shapes is worth
WARM = 0.1  # of the time that importing takes, what forking a process that has done so does
REACHED = 0.75  # of what single operations reach, what networks do


def measure(threads: int, decode: Callable[[], float], started: float) -> Machine:
    """Measures this machine with so many CPU threads: the quickest of some tries, and no less than what one thread does
    in its own time, so that what else runs here just now counts little.

    decode: measures seconds an image.
    started: seconds that this process has taken to import what stages import.
    """
    before, device = torch.get_num_threads(), environment.device()
    environment.keep_memory()  # as stages do
    a = torch.ones(1024, 1024)

    def product() -> float:
        return len(a) ** 3 / _best(lambda: a @ a)

    try:
        torch.set_num_threads(1)
        alone, products = _rates(torch.device("cpu")), product()
        torch.set_num_threads(threads)
        if threads > 1:
            alone, products = _better(alone, _rates(torch.device("cpu"))), max(products, product())
        networks = alone if device.type == "cpu" else _rates(device)
        begun = WARM * started if warm.possible() else started
        return Machine(networks, alone, products, decode(), _written(), begun, started, held=usage.peak())
    finally:
        torch.set_num_threads(before)


def _better(one: Rates, other: Rates) -> Rates:
    moved, afresh = max(one.moved, other.moved), max(one.afresh, other.afresh)
    return Rates(max(one.macs, other.macs), moved, afresh, min(one.call, other.call))


def _rates(device: torch.device) -> Rates:
    count = 16 if device.type == "cpu" else 256  # images: a GPU is quick only with many
    x, weight = torch.ones(count, 64, 32, 32, device=device), torch.ones(64, 64, 3, 3, device=device)
    few, large = torch.ones(16, device=device), torch.ones(2 * AFRESH // 4, device=device)
    with torch.inference_mode():
        macs = x.numel() * weight[0].numel() / _best(lambda: F.conv2d(x, weight, padding=1), device)
        moved = 2 * x.nbytes / _best(lambda: F.gelu(x), device)
        afresh = 2 * large.nbytes / _best(lambda: F.gelu(large), device)
        call = CALLED * _best(lambda: [few.relu() for _ in range(100)], device) / 100
    return Rates(REACHED * macs, REACHED * moved, afresh, call)


def _best(run: Callable[[], object], device: torch.device | None = None) -> float:
    """Seconds of the quickest run; of one thread of the CPU its own time, without that in which others had its core."""
    kind = "cpu" if device is None else device.type
    clock = time.thread_time if kind == "cpu" and torch.get_num_threads() == 1 else time.perf_counter

    def timed() -> float:
        began = clock()
        run()
        if kind == "cuda":
            torch.cuda.synchronize(device)
        elif kind == "mps":
            torch.mps.synchronize()
        return clock() - began

    timed()
    found, end = timed(), time.perf_counter() + SPENT
    while time.perf_counter() < end:
        found = min(found, timed())
    return found


def _written() -> float:
    """Bytes in a second, to the disk that the working folder lies on."""
    with NamedTemporaryFile(dir=Path()) as file:
        content, began = os.urandom(2**20) * (WRITTEN // 2**20), time.perf_counter()
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
        return WRITTEN / (time.perf_counter() - began)


def memory_free() -> int:
    """Bytes that processes can still take: of the machine, or of the container that this runs in."""
    found = psutil.virtual_memory().available
    for limit, used, stat in (
        ("memory.max", "memory.current", "memory.stat"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat"),
    ):
        try:
            most = int((GROUPS / limit).read_text())
            cached = re.search(r"^(?:total_)?inactive_file (\d+)", (GROUPS / stat).read_text(), re.MULTILINE)
            taken = int((GROUPS / used).read_text()) - (int(cached[1]) if cached else 0)
        except (OSError, ValueError):  # no container, or one without a limit
            continue
        found = min(found, max(0, most - taken))
    return found


def disk_free(folder: Path) -> int:
    """Bytes free where a folder is, or will be made."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free
