"""What a similarity index is: a module of `indices`, found by its name."""

import importlib
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from ...params.similarity import Similarity
from .layers import Network, Pair, Tile


class Index(Protocol):
    """TITLE: for people; READS: the keys of `similarity` that its tiles depend on, beside `index`."""

    TITLE: str
    READS: tuple[str, ...]

    def tiles(
        self, networks: Sequence[Network], pairs: Sequence[Pair], memory: int, params: Similarity
    ) -> Iterator[Tile]:
        """For each pair of networks, by position, the products [L_a, L_b] of their layers, float64; they are normalised
        by those of each layer with itself. memory: bytes that may be in use at a time.
        """
        ...


def find(name: str) -> Index:
    """The module of `indices` that is called `name`."""
    found: Any = importlib.import_module(f".indices.{name}", __package__)
    return found
