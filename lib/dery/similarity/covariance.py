"""Products over images, C = X_i' X_j [d_i, d_j], for all pairs of layers, and what an index makes of each C.

The layers of a network are put side by side in strips of about WIDTH columns; each pair of strips is one matrix
product. Strips depend on their network alone, so the bits of C depend neither on other networks nor on memory.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch
from jaxtyping import Float, Float32, Float64

from .layers import Network, Pair, Tile

WIDTH = 512  # columns of a strip, at least, unless it is a network's last


class Features(Protocol):
    """What stands for consecutive layers of a network, and whatever else an index wants to know of them."""

    @property
    def columns(self) -> Float32[torch.Tensor, "n d"]:
        """float32 [n, sum of widths]"""
        ...

    @property
    def widths(self) -> Sequence[int]:
        """The number of columns of each layer."""
        ...


F = TypeVar("F", bound=Features)


@dataclass(frozen=True)
class Strip:
    """Consecutive layers of a network; bytes: of their columns."""

    network: int
    start: int
    stop: int
    bytes: int


def products(
    networks: Sequence[Network],
    pairs: Iterable[Pair],
    features: Callable[[Network, range], F],
    reduce: Callable[[torch.Tensor, F, F], torch.Tensor],
    memory: int,
) -> Iterator[Tile]:
    """The tile of each pair of networks, as it is done; of a network with itself at least what is above the diagonal.

    features: of some layers of a network.
    reduce: C of two strips (it may overwrite it) and their features -> float64 [layers, layers].
    memory: bytes for columns; two strips are the least.
    """
    pairs = set(pairs)
    tiles = {
        (a, b): torch.zeros(len(networks[a].layers), len(networks[b].layers), dtype=torch.float64) for a, b in pairs
    }
    lefts = [strip for m in sorted({a for a, _ in pairs}) for strip in strips_of(networks, m)]
    rights = [strip for m in sorted({b for _, b in pairs}) for strip in strips_of(networks, m)]
    for chunk in chunks_of(lefts, memory // 2):
        held = {left: _hold(networks, left, features) for left in chunk}
        for right in rights:
            if not any((left.network, right.network) in pairs for left in chunk):
                continue
            y = held.get(right) or _hold(networks, right, features)
            for left, x in held.items():
                pair = (left.network, right.network)
                if pair in pairs and not (left.network == right.network and left.start > right.start):
                    found = reduce(x.columns.T @ y.columns, x, y).cpu()
                    tiles[pair][left.start : left.stop, right.start : right.stop] = found
                    if tuple(tiles[pair].shape) == (left.stop, right.stop):  # the last strips of both
                        yield pair, tiles.pop(pair)


def sums(c: Float[torch.Tensor, "d e"], left: Features, right: Features) -> Float64[torch.Tensor, "l m"]:
    """Sums of the entries of `c` by pairs of layers, float64 [layers, layers]."""
    return (_membership(left, c.device).T @ c).double() @ _membership(right, c.device).double()


def _membership(strip: Features, device: torch.device) -> torch.Tensor:
    """[columns, layers]: 1 where a column is one of a layer's."""
    return torch.eye(len(strip.widths)).repeat_interleave(torch.tensor(strip.widths), 0).to(device)


def strips_of(networks: Sequence[Network], m: int) -> Iterator[Strip]:
    """The strips of a network, in order."""
    network = networks[m]
    first = columns = 0
    for i, width in enumerate(network.widths):
        columns += width
        if columns >= WIDTH or i == len(network.widths) - 1:
            yield Strip(m, first, i + 1, 4 * network.images * columns)
            first, columns = i + 1, 0


def chunks_of(strips: list[Strip], memory: int) -> Iterator[list[Strip]]:
    """All strips, in parts that fit, one at least."""
    chunk: list[Strip] = []
    for strip in strips:
        if chunk and sum(s.bytes for s in chunk) + strip.bytes > memory:
            yield chunk
            chunk = []
        chunk.append(strip)
    if chunk:
        yield chunk


def _hold(networks: Sequence[Network], strip: Strip, features: Callable[[Network, range], F]) -> F:
    return features(networks[strip.network], range(strip.start, strip.stop))
