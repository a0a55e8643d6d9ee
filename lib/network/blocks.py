"""Blocks of networks and choices of them, the nouns that partition, search, assembly and report have in common (DeRy,
sections 3.1 and 3.4). Plain values with one JSON form each: no network is opened here.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any

from pydantic import Field

from ..base.stored import CHECKED, Count, Name, parse


@dataclass(frozen=True, order=True)
class Block:
    """Nodes start + 1 to stop of a network, which are `chain[start:stop]` of its chain (DeRy, section 3.1)."""

    __pydantic_config__ = CHECKED

    network: Name
    start: Count
    stop: Count

    def __post_init__(self) -> None:
        if self.stop <= self.start:
            raise ValueError(f"stop = {self.stop} should be more than start = {self.start}")

    def __str__(self) -> str:
        return f"{self.network} {self.start}:{self.stop}"

    def covers(self, other: "Block") -> bool:
        """Whether all nodes of `other` are among its own."""
        return self.network == other.network and self.start <= other.start and other.stop <= self.stop

    def to_dict(self) -> dict[str, Any]:
        """The block as JSON holds it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, stored: Any) -> "Block":
        """The inverse of `to_dict`. Raises BrickyardError naming the keys that are not right."""
        return parse(cls, stored)


@dataclass(frozen=True, order=True)
class Pick:
    """One block from each equivalence set, in the order of the sets, which is that from the image to the head (DeRy,
    section 3.4, Eq. 8).
    """

    __pydantic_config__ = CHECKED

    blocks: Annotated[tuple[Block, ...], Field(min_length=1)]

    @classmethod
    def of(cls, table: Sequence[Sequence[Block]], columns: Sequence[int]) -> "Pick":
        """The pick that takes from each row of `table` [K][N] the block in that column."""
        return cls(tuple(row[column] for row, column in zip(table, columns, strict=True)))

    @property
    def networks(self) -> tuple[str, ...]:
        """The network that supplies each set."""
        return tuple(block.network for block in self.blocks)

    def runs(self) -> tuple[Block, ...]:
        """The same nodes in fewer blocks: neighbours in their own network, too, are one."""
        found: list[Block] = []
        for block in self.blocks:
            if found and (found[-1].network, found[-1].stop) == (block.network, block.start):
                found[-1] = Block(block.network, found[-1].start, block.stop)
            else:
                found.append(block)
        return tuple(found)

    def to_dict(self) -> dict[str, Any]:
        """The pick as JSON holds it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, stored: Any) -> "Pick":
        """The inverse of `to_dict`. Raises BrickyardError naming the keys that are not right."""
        return parse(cls, stored)
