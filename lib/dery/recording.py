"""Recording activations at the boundaries of a chain (DeRy, section 3.2): rows are written as they come."""

from collections.abc import Iterable
from math import isfinite
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch.nn import functional as F

from ..base import artifacts, environment, rowwise
from ..base.errors import BrickyardError
from ..chain.chain import Chain
from ..chain.layout import Layout
from ..images.data import Batch
from .activations import key

BUFFER = 2**23  # bytes of rows that may wait to be written


@torch.no_grad()
def record(
    folder: Path,
    chain: Chain,
    batches: Iterable[Batch],
    images: Int64[np.ndarray, " n"],
    grid: int = 1,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Writes chain.json and activations.safetensors: `dtype` [n, d] a node, and the ids of the n images, in order.

    One forward pass; rows are written as they come, so memory does not grow with n. d = channels times cells, see
    `pooled`. `images`: the ids of what `batches` yields. Raises BrickyardError naming network and node when an
    activation is not finite, and when there are not as many images as ids.
    """
    n = len(images)
    with torch.device("meta"):
        shapes = {key(i): torch.empty(n, _width(node.output, grid), dtype=dtype) for i, node in enumerate(chain.nodes)}
        shapes["images"] = torch.empty(n, dtype=torch.int64)
    artifacts.write_json(folder / "chain.json", chain.to_dict(), environment.machine())
    with rowwise.written(folder / "activations.safetensors", shapes) as writer:
        writer.append("images", torch.from_numpy(images))
        waiting, filled = _room(chain, grid, dtype, 0, torch.device("cpu")), 0
        for x, _ in batches:
            if filled + len(x) > len(waiting[0]) or waiting[0].device != x.device:
                _write(writer, chain, waiting, filled)
                fits = len(x) <= len(waiting[0]) and waiting[0].device == x.device
                waiting, filled = (waiting if fits else _room(chain, grid, dtype, len(x), x.device)), 0
            for rows, node, output in zip(waiting, chain.nodes, chain.walk(x), strict=True):
                rows[filled : filled + len(x)] = pooled(node.output, output, grid)
            filled += len(x)
        _write(writer, chain, waiting, filled)


def _room(chain: Chain, grid: int, dtype: torch.dtype, images: int, device: torch.device) -> list[torch.Tensor]:
    """For the rows that wait where they are made, [r, d] a node: BUFFER bytes, and at least so many images; taken once,
    since memory that is taken again and again has to be found anew by the system.
    """
    widths = [_width(node.output, grid) for node in chain.nodes]
    count = max(images, BUFFER // (sum(widths) * dtype.itemsize))
    return [torch.empty(count, width, dtype=dtype, device=device) for width in widths]


def _write(writer: rowwise.TensorWriter, chain: Chain, waiting: list[torch.Tensor], filled: int) -> None:
    """Appends the first rows, which have been waiting."""
    for i, (node, rows) in enumerate(zip(chain.nodes, waiting, strict=True)):
        found = rows[:filled]
        if not isfinite(found.sum()) and not found.isfinite().all():  # a sum may be infinite where no summand is
            raise BrickyardError(f"{chain.name}: activations of node {node.name} are not finite; leave it out")
        writer.append(key(i), found.cpu())


def pooled(layout: Layout, x: Float[torch.Tensor, "b ..."], grid: int) -> Float[torch.Tensor, "b d"]:
    """[b, d]: means over the cells of a grid x grid, channel by channel; prefix tokens are left out.

    A side has as many cells as the map has pixels where that is less; 1 is the average over the whole map.
    """
    if grid == 1:
        return layout.pool(x)
    return F.adaptive_avg_pool2d(layout.to_map(x), _cells(layout, grid)).flatten(1)


def _cells(layout: Layout, grid: int) -> tuple[int, int]:
    return min(grid, layout.height), min(grid, layout.width)


def _width(layout: Layout, grid: int) -> int:
    height, width = _cells(layout, grid)
    return layout.channels * height * width
