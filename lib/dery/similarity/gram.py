"""Inner products of kernel matrices, <K_i, K_j>_F / n^2, block by block.

Kernel matrices [n, n] are symmetric, so blocks (r, c) of ROWS x ROWS images with r <= c suffice; those off the diagonal
count twice. As many blocks of all layers as memory allows are made at once; then each pair of networks is one matrix
product a block. Each has the shape of its own pair's, so its bits depend neither on other networks nor on memory.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement

import torch

from .layers import Network, Pair, Tile, centred, is_constant

ROWS = 256  # images a side of a block
COLUMNS = 4096  # columns of a layer that are centred at once
Block = tuple[slice, slice]
Blocks = list[tuple[slice, slice, torch.Tensor]]


Finish = Callable[[Blocks, torch.Tensor], None]


@dataclass(frozen=True)
class Kernel:
    """How a kernel is made of the centred linear kernel K of a layer, scaled to a mean diagonal of 1.

    finish: turns blocks of K, whose diagonal is given, float64 [n], into blocks of the kernel, in place. survey, where
    a kernel has one, comes before: it is shown all blocks of K, which it may overwrite, and makes the layer's `finish`.
    """

    finish: Finish | None = None
    survey: Callable[[Blocks, torch.Tensor], Finish] | None = None


def products(networks: Sequence[Network], pairs: Iterable[Pair], kernel: Kernel, memory: int) -> Iterator[Tile]:
    """The tile of each pair of networks, as it is done: means over image pairs of products of two kernels' entries.

    memory: bytes in use at a time; one block of every layer, or all blocks of one, are the least. A constant layer's
    kernel is 0.
    """
    pairs = list(pairs)
    used = sorted({m for pair in pairs for m in pair})
    if not used:
        return
    n = networks[used[0]].images
    tiles = {
        (a, b): torch.zeros(len(networks[a].layers), len(networks[b].layers), dtype=torch.float64) for a, b in pairs
    }
    layers = sum(len(networks[m].layers) for m in used)
    making = 12 * n * min(COLUMNS, max(max(networks[m].widths) for m in used))  # bytes while a layer is centred
    finish = {m: _finishers(networks[m], kernel) for m in used}
    sheets = sheets_of(n, layers, memory - making)
    for count, sheet in enumerate(sheets, start=1):
        grams = {m: _grams(networks[m], sheet, finish[m]) for m in used}
        for a, b in pairs:
            for i, (r, c) in enumerate(sheet):
                tiles[a, b] += (1 if r == c else 2) / n**2 * (grams[a][i] @ grams[b][i].T).double().cpu()
            if count == len(sheets):
                yield (a, b), tiles.pop((a, b))
        grams.clear()  # before the next sheet takes its place


def blocks(n: int) -> list[Block]:
    """The blocks on and above the diagonal."""
    parts = [slice(start, min(start + ROWS, n)) for start in range(0, n, ROWS)]
    return list(combinations_with_replacement(parts, 2))


def sheets_of(n: int, layers: int, memory: int) -> list[list[Block]]:
    """All blocks, in parts that fit."""
    every = blocks(n)
    count = max(1, memory // (4 * layers * min(ROWS, n) ** 2))
    return [every[i : i + count] for i in range(0, len(every), count)]


def _finishers(network: Network, kernel: Kernel) -> list[Finish]:
    """For each layer."""
    found: list[Finish] = []
    for i, layer in enumerate(network.layers):
        if kernel.survey is not None and not is_constant(layer):
            every = [(r, c, torch.empty(_shape((r, c)), device=network.device)) for r, c in blocks(len(layer))]
            found.append(kernel.survey(every, _fill(every, network, i)))
        else:
            found.append(kernel.finish or (lambda made, diagonal: None))
    return found


def _grams(network: Network, sheet: list[Block], finish: list[Finish]) -> list[torch.Tensor]:
    """For each block float32 [L, rows * columns]."""
    shapes = [_shape(block) for block in sheet]
    found = [torch.empty(len(network.layers), rows * columns, device=network.device) for rows, columns in shapes]
    for i, layer in enumerate(network.layers):
        targets = [(r, c, gram[i].view(s)) for (r, c), gram, s in zip(sheet, found, shapes, strict=True)]
        if is_constant(layer):
            for _, _, target in targets:
                target.zero_()
        else:
            finish[i](targets, _fill(targets, network, i))
    return found


def _shape(block: Block) -> tuple[int, int]:
    r, c = block
    return r.stop - r.start, c.stop - c.start


def _fill(made: Blocks, network: Network, i: int) -> torch.Tensor:
    """Blocks of the centred linear kernel of a layer, scaled to a mean diagonal of 1; returns the diagonal [n]."""
    layer = network.layers[i]
    diagonal = torch.zeros(len(layer), dtype=torch.float64, device=network.device)
    for first, part in zip(range(layer.shape[1]), layer.split(COLUMNS, 1), strict=False):
        y = centred(part.to(network.device))
        diagonal += y.square().sum(1)
        for r, c, target in made:
            target.addmm_(y[r], y[c].T, beta=1 if first else 0)
    scale = network.spread(i, float(diagonal.mean()))
    for _, _, target in made:
        target.div_(scale)
    return diagonal / scale
