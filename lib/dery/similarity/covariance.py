"""Products over images, C = X_i' X_j [d_i, d_j], for all pairs of layers, and what an index makes of each C.

The layers of a network are put side by side in strips of about WIDTH columns; each pair of strips is one matrix
product. Strips depend on their network alone, so the bits of C depend neither on other networks nor on memory.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, Self, TypeVar

import torch

from lib.dery.similarity.layers import Network, Pair, Tiles

WIDTH = 512  # columns of a strip, at least, unless it is a network's last


class Features(Protocol):
    """What stands for a layer: columns float32 [n, r], and whatever else an index wants to know."""

    @property
    def columns(self) -> torch.Tensor: ...  # noqa: D102

    def within(self, columns: torch.Tensor) -> Self:
        """The same with its columns held elsewhere."""
        ...


F = TypeVar("F", bound=Features)
Reduce = Callable[[torch.Tensor, Sequence[F], Sequence[F]], torch.Tensor]


@dataclass(frozen=True)
class _Strip:
    """Consecutive layers of a network."""

    network: int
    start: int
    stop: int
    bytes: int


@dataclass(frozen=True)
class _Held(Generic[F]):
    columns: torch.Tensor
    features: list[F]


def products(
    networks: Sequence[Network],
    pairs: Iterable[Pair],
    features: Callable[[Network, int], F],
    reduce: Reduce[F],
    memory: int,
) -> Tiles:
    """float64 [L_a, L_b] for each pair of networks; of a network with itself at least what is above the diagonal.

    features: of a layer of a network; reduce: C of two strips (which it may overwrite) and the features of their layers
    -> float64 [layers, layers]; memory: bytes for columns; two strips are the least.
    """
    pairs = set(pairs)
    tiles = {
        (a, b): torch.zeros(len(networks[a].layers), len(networks[b].layers), dtype=torch.float64) for a, b in pairs
    }
    lefts = [strip for m in sorted({a for a, _ in pairs}) for strip in _strips(networks, m)]
    rights = [strip for m in sorted({b for _, b in pairs}) for strip in _strips(networks, m)]
    for chunk in _chunks(lefts, memory // 2):
        held = {left: _hold(networks, left, features) for left in chunk}
        for right in rights:
            if not any((left.network, right.network) in pairs for left in chunk):
                continue
            y = held.get(right) or _hold(networks, right, features)
            for left, x in held.items():
                pair = (left.network, right.network)
                if pair in pairs and not (left.network == right.network and left.start > right.start):
                    found = reduce(x.columns.T @ y.columns, x.features, y.features)
                    tiles[pair][left.start : left.stop, right.start : right.stop] = found
    return tiles


def sums(c: torch.Tensor, left: Sequence[Features], right: Sequence[Features]) -> torch.Tensor:
    """Sums of the entries of `c` by pairs of layers, float64 [layers, layers]."""
    rows = [part.sum(0) for part in c.split([f.columns.shape[1] for f in left])]
    parts = torch.stack(rows).split([f.columns.shape[1] for f in right], 1)
    return torch.stack([part.sum(1, dtype=torch.float64) for part in parts], 1)


def _strips(networks: Sequence[Network], m: int) -> Iterator[_Strip]:
    network = networks[m]
    first = columns = 0
    for i, width in enumerate(network.widths):
        columns += width
        if columns >= WIDTH or i == len(network.widths) - 1:
            yield _Strip(m, first, i + 1, 4 * network.images * columns)
            first, columns = i + 1, 0


def _chunks(strips: list[_Strip], memory: int) -> Iterator[list[_Strip]]:
    """All strips, in parts that fit, one at least."""
    chunk: list[_Strip] = []
    for strip in strips:
        if chunk and sum(s.bytes for s in chunk) + strip.bytes > memory:
            yield chunk
            chunk = []
        chunk.append(strip)
    if chunk:
        yield chunk


def _hold(networks: Sequence[Network], strip: _Strip, features: Callable[[Network, int], F]) -> _Held[F]:
    network = networks[strip.network]
    made = [features(network, i) for i in range(strip.start, strip.stop)]
    columns = torch.cat([f.columns for f in made], 1)
    parts = columns.split([f.columns.shape[1] for f in made], 1)
    return _Held(columns, [f.within(part) for f, part in zip(made, parts, strict=True)])
