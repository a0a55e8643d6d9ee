"""Tables of what the parts of candidates contribute, and limits on what a path adds up to in one."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from jaxtyping import Real

Columns = tuple[int, ...]  # of a path, one a set
Kind = Literal["params", "macs", "memory", "latency"]
KINDS: tuple[Kind, ...] = ("params", "macs", "memory", "latency")
GRAIN = 2.0**32


@dataclass(frozen=True)
class Table:
    """What the parts of a candidate contribute. blocks: [K, N], of network m's k-th block, its head counted into the
    last; stitches: [K-1, N, N], from network m to network n behind set k; for m = n 0, or less than 0 where both blocks
    need something that is there once (a shared weight), or what memory needs. A block and the stitch before it never
    cost less than 0.

    Values are rounded to multiples of 2^-32: below 2^21 their sums are then exact, so that equal ones are equal
    whatever the order of the terms. Integers (parameters, MACs, bytes) stay what they are.
    """

    blocks: Real[np.ndarray, "K N"]
    stitches: Real[np.ndarray, "K-1 N N"]

    def __post_init__(self) -> None:
        for name in ("blocks", "stitches"):
            values = np.asarray(getattr(self, name), dtype=np.float64)
            object.__setattr__(self, name, np.round(values * GRAIN) / GRAIN)

    def parts(self, path: Columns) -> list[float]:
        """What every block and every stitch on a path contributes."""
        blocks = [float(self.blocks[k, m]) for k, m in enumerate(path)]
        return blocks + [float(self.stitches[k, m, n]) for k, (m, n) in enumerate(pairwise(path))]


@dataclass(frozen=True)
class Ceiling:
    """A limit on what a path adds up to in `table`: `most`. A lower limit on a kind of cost is one on its negative."""

    kind: Kind | Literal["stitches"]
    lower: bool
    table: Table
    most: float
