"""Measuring how long nodes take on this machine: never inside a stage, whose outputs must not depend on the clock."""

import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import nn

from ..trace.cost import count
from ..zoo.card import Card, Input
from .chain import Chain
from .latency import Latency, Measured, StitchLatency, fingerprint

WARM_UP = 3  # runs that do not count
UNDISTURBED = 0.9  # share of the measured time in which the measuring thread had a core, at least


@dataclass
class Stopwatch:
    """Medians over `repeats` runs after a warm-up, and how much of the measured time was ours.

    A thread that other processes keep from its core waits: its own CPU time falls behind the clock. On a GPU that shows
    nothing, since the device may be shared while the thread waits for it at full speed.
    """

    repeats: int
    _clock: float = field(default=0.0, init=False)
    _own: float = field(default=0.0, init=False)

    @torch.no_grad()
    def median(self, module: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> float:
        """The median time of `module` for the batch `x`, on its device, in milliseconds."""
        times = []
        for i in range(WARM_UP + self.repeats):
            copied = x.clone()  # a node may change its input
            _wait(x.device)
            began, own = time.perf_counter(), time.thread_time()
            module(copied)
            _wait(x.device)
            taken = time.perf_counter() - began
            if i >= WARM_UP:
                times.append(taken)
                self._clock, self._own = self._clock + taken, self._own + time.thread_time() - own
        return 1e3 * statistics.median(times)

    @property
    def share(self) -> float:
        """The share of the measured time, in [0, 1], in which this thread had a core; 1 before anything is measured."""
        return min(self._own / self._clock, 1.0) if self._clock else 1.0

    @property
    def undisturbed(self) -> bool:
        """Whether the figures can be trusted."""
        return self.share >= UNDISTURBED


@dataclass(frozen=True)
class Timed:
    """Milliseconds for one batch: nodes and head, and the whole network at once."""

    parts: Measured
    whole: float


def of_network(network: nn.Module, card: Card, batch_size: int, watch: Stopwatch) -> Timed:
    """Milliseconds of a network of the zoo, in eval mode on its device, for random images."""
    chain = Chain(card.name, network, card.input.shape, declared=card.nodes)
    found = measure(chain, _images(network, card.input, batch_size), watch)
    nodes = dict(zip((node.name for node in chain.nodes), found.nodes, strict=True))
    return Timed(Measured(fingerprint(chain), nodes, found.head), whole(network, card.input, batch_size, watch))


def whole(network: nn.Module, expected: Input, batch_size: int, watch: Stopwatch) -> float:
    """Milliseconds of a network in eval mode at once, on its device, for a batch of random images that it expects."""
    return watch.median(network, _images(network, expected, batch_size))


def _images(network: nn.Module, expected: Input, count: int) -> torch.Tensor:
    images = torch.rand(count, *expected.shape, generator=torch.Generator().manual_seed(0))
    return images.to(next(network.parameters()).device)


@torch.no_grad()
def measure(chain: Chain, images: torch.Tensor, watch: Stopwatch) -> Latency:
    """Milliseconds of every node of `chain`, one after another, for the batch `images`, on their device."""
    x, nodes = images, []
    for i in range(len(chain)):
        part = chain[i : i + 1]
        nodes.append(watch.median(part, x))
        x = part(x.clone())
    return Latency(tuple(nodes), watch.median(chain.head, x))


def measure_stitch(batch_size: int, device: torch.device, watch: Stopwatch) -> StitchLatency:
    """The line through the medians of 1x1 convolutions of several sizes."""
    gmacs, medians = [], []
    for channels, side in ((16, 8), (64, 8), (64, 16), (128, 16), (256, 16), (256, 28)):
        layer = nn.Conv2d(channels, channels, 1)
        gmacs.append(count(layer, (channels, side, side)).macs / 1e9)
        medians.append(watch.median(layer.to(device), torch.rand(batch_size, channels, side, side, device=device)))
    return _line(gmacs, medians)


def _line(gmacs: Sequence[float], medians: Sequence[float]) -> StitchLatency:
    slope, base = statistics.linear_regression(gmacs, medians)
    return StitchLatency(max(base, 0.0), max(slope, 0.0))


def name(device: torch.device) -> str:
    """What the machine calls its processor."""
    return f"{device.type} {torch.cuda.get_device_name(device) if device.type == 'cuda' else platform.machine()}"


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
