"""Measuring how long nodes take on this machine: never inside a stage, whose outputs must not depend on the clock."""

import statistics
import time
from collections.abc import Callable, Sequence

import torch
from torch import nn

from lib.chain import Chain
from lib.cost import count
from lib.latency import Latency, StitchLatency

WARM_UP = 3  # runs that do not count


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
