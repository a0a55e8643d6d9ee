"""How long nodes take on this machine: measured on demand, kept in a file, read as a table."""

import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lib import artifacts
from lib.chain import Chain
from lib.cost import count
from lib.errors import BrickyardError

REMEASURE = "measure it: ./run python -m stages.latency"


@dataclass(frozen=True)
class Latency:
    """Milliseconds for one batch. nodes[i]: of node i+1 of a chain; head: pooling and classifier."""

    nodes: tuple[float, ...]
    head: float

    def block(self, start: int, stop: int) -> float:
        """Of nodes start+1..stop one after another, to a good approximation."""
        return sum(self.nodes[start:stop])


@dataclass(frozen=True)
class StitchLatency:
    """Milliseconds of a stitch for one batch: base + per_gmac times its MACs in 10^9."""

    base: float
    per_gmac: float

    def of(self, macs: int) -> float:
        """Of a stitch of so many MACs for one image."""
        return self.base + self.per_gmac * macs / 1e9


@torch.no_grad()
def measure(chain: Chain, batch_size: int, repeats: int) -> Latency:
    """Median over `repeats` runs of every node of `chain` on random images, after two runs to warm up."""
    x = torch.rand(batch_size, *chain.layout(0).shape, generator=torch.Generator().manual_seed(0))
    device = chain.device
    nodes, x = [], x.to(device)
    for i in range(len(chain)):
        part = chain[i : i + 1]
        nodes.append(_median(part, x, repeats))
        x = part(x)
    return Latency(tuple(nodes), _median(chain.head, x, repeats))


@torch.no_grad()
def measure_stitch(batch_size: int, repeats: int, device: torch.device) -> StitchLatency:
    """The line through the medians of 1x1 convolutions of several sizes."""
    macs, medians = [], []
    for channels, side in ((16, 8), (64, 8), (64, 16), (128, 16), (256, 16), (256, 28)):
        layer = nn.Conv2d(channels, channels, 1).to(device)
        x = torch.rand(batch_size, channels, side, side, device=device)
        macs.append(count(layer, (channels, side, side)).macs / 1e9)
        medians.append(_median(layer, x, repeats))
    slope, base = statistics.linear_regression(macs, medians)
    return StitchLatency(max(base, 0.0), max(slope, 0.0))


def _median(module: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor, repeats: int) -> float:
    times = []
    for i in range(repeats + 2):
        if x.is_cuda:
            torch.cuda.synchronize()
        started = time.perf_counter()
        module(x.clone())  # a node may change its input
        if x.is_cuda:
            torch.cuda.synchronize()
        if i >= 2:
            times.append(time.perf_counter() - started)
    return 1e3 * statistics.median(times)
