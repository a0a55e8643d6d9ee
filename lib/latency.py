"""How long nodes take on this machine: measured on demand, kept in a file that stages read, never measured by them."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lib import artifacts
from lib.chain import Chain
from lib.cost import count
from lib.errors import BrickyardError

COMMAND = "./run python -m stages.latency"
WARM_UP = 3  # runs that do not count


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


@dataclass(frozen=True)
class Latencies:
    """networks: by name of the zoo entry; stitch: of any stitch; made: on what machine and how, for the reader."""

    networks: dict[str, tuple[dict[str, float], float]]
    stitch: StitchLatency
    made: dict[str, Any]

    def of(self, chain: Chain) -> Latency:
        """Of the nodes of `chain`. Raises BrickyardError where they have not been measured."""
        nodes, head = self.networks.get(chain.name, ({}, 0.0))
        missing = [node.name for node in chain.nodes if node.name not in nodes]
        if missing:
            raise BrickyardError(f"latency: node {missing[0]} of {chain.name} has not been measured: {COMMAND}")
        return Latency(tuple(nodes[node.name] for node in chain.nodes), head)


def save(path: Path, latencies: Latencies) -> None:
    """Writes JSON, milliseconds with four significant digits."""
    networks = {
        name: {"nodes": {node: _digits(value) for node, value in nodes.items()}, "head": _digits(head)}
        for name, (nodes, head) in sorted(latencies.networks.items())
    }
    stitch = {"base": _digits(latencies.stitch.base), "per_gmac": _digits(latencies.stitch.per_gmac)}
    artifacts.write_json(path, {"unit": "ms a batch", **latencies.made, "stitch": stitch, "networks": networks})


def load(path: Path) -> Latencies:
    """What `save` wrote. Raises BrickyardError when nothing has been measured yet."""
    stored = artifacts.read_json(path)
    if not stored.get("networks"):
        raise BrickyardError(f"{path}: nothing has been measured yet: {COMMAND}")
    networks = {name: (dict(table["nodes"]), table["head"]) for name, table in stored.pop("networks").items()}
    return Latencies(networks, StitchLatency(**stored.pop("stitch")), stored)


@torch.no_grad()
def measure(chain: Chain, images: torch.Tensor, repeats: int) -> Latency:
    """Median over `repeats` runs of every node of `chain` for the batch `images`, on their device, after a warm-up."""
    x, nodes = images, []
    for i in range(len(chain)):
        part = chain[i : i + 1]
        nodes.append(_median(part, x, repeats))
        x = part(x.clone())
    return Latency(tuple(nodes), _median(chain.head, x, repeats))


@torch.no_grad()
def of_whole(model: nn.Module, images: torch.Tensor, repeats: int) -> float:
    """Median time of a network for the batch `images`, in milliseconds."""
    return _median(model.eval(), images, repeats)


@torch.no_grad()
def measure_stitch(batch_size: int, device: torch.device, repeats: int) -> StitchLatency:
    """The line through the medians of 1x1 convolutions of several sizes."""
    gmacs, medians = [], []
    for channels, side in ((16, 8), (64, 8), (64, 16), (128, 16), (256, 16), (256, 28)):
        layer = nn.Conv2d(channels, channels, 1)
        gmacs.append(count(layer, (channels, side, side)).macs / 1e9)
        medians.append(_median(layer.to(device), torch.rand(batch_size, channels, side, side, device=device), repeats))
    return _line(gmacs, medians)


def _line(gmacs: Sequence[float], medians: Sequence[float]) -> StitchLatency:
    slope, base = statistics.linear_regression(gmacs, medians)
    return StitchLatency(max(base, 0.0), max(slope, 0.0))


def _median(module: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor, repeats: int) -> float:
    times = []
    for i in range(WARM_UP + repeats):
        copied = x.clone()  # a node may change its input
        _wait(x.device)
        started = time.perf_counter()
        module(copied)
        _wait(x.device)
        if i >= WARM_UP:
            times.append(time.perf_counter() - started)
    return 1e3 * statistics.median(times)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _digits(value: float) -> float:
    return float(f"{value:.4g}")
