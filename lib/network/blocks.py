"""Blocks of networks and choices of them, the nouns that partition, search, assembly and report have in common (DeRy,
sections 3.1 and 3.4). Plain values with one JSON form each: no network is opened here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from ..base.stored import CHECKED, Count, Name, parse


@dataclass(frozen=True, order=True)
class Block:
    """Nodes start + 1 to stop of a network, which are `chain[start:stop]` of its chain (DeRy, section 3.1), or one of
    their other forms; those are ours. A smaller form is entered and left by the same tensors.

    width: share of the channels inside the block that are there.
    without: (i, j): a stitch stands for nodes i + 1 to j.
    shifted: it is entered, from another network, where another block of its own network begins: before, so that it is
        longer, or behind, so that nothing of it is left (start = stop).
    """

    __pydantic_config__ = CHECKED

    network: Name
    start: Count
    stop: Count
    width: Annotated[float, Field(gt=0, le=1)] = 1.0
    without: tuple[Count, Count] | tuple[()] = ()
    shifted: bool = False

    def __post_init__(self) -> None:
        if self.stop < self.start or (self.stop == self.start and not self.shifted):
            raise ValueError(f"stop = {self.stop} should be more than start = {self.start}")
        if self.without and not self.start <= self.without[0] < self.without[1] <= self.stop:
            raise ValueError(f"without = {self.without} should be nodes of {self.start}:{self.stop}")

    def __str__(self) -> str:
        return f"{self.network} {self.start}:{self.stop}" + (f" at {self.width:g}" if self.narrow else "")

    @property
    def narrow(self) -> bool:
        """Whether channels are missing."""
        return self.width < 1

    @property
    def form(self) -> str:
        """In what it differs from the whole block, in words; empty for that."""
        if self.shifted:
            return "passed by" if self.empty else f"from {self.start + 1}"
        if not self.without:
            return f"at {self.width:g}" if self.narrow else ""
        first, last = self.without[0] + 1, self.without[1]
        return f"without {first}" if first == last else f"without {first}-{last}"

    @property
    def empty(self) -> bool:
        """Whether its network is entered behind it."""
        return self.start == self.stop

    @property
    def opens(self) -> bool:
        """Whether a stitch stands where it begins: only its own network can be before it."""
        return bool(self.without) and self.without[0] == self.start

    @property
    def closes(self) -> bool:
        """Whether a stitch stands where it ends: only its own network can be behind it."""
        return self.empty or (bool(self.without) and self.without[1] == self.stop)

    def pieces(self) -> tuple["Block", ...]:
        """What is left of it."""
        if self.shifted:
            return () if self.empty else (Block(self.network, self.start, self.stop),)
        if not self.without:
            return (self,)
        ends = ((self.start, self.without[0]), (self.without[1], self.stop))
        return tuple(Block(self.network, i, j, self.width) for i, j in ends if i < j)

    def continues(self, other: "Block") -> bool:
        """Whether it begins where `other` ends, in their own network: nothing has to stand between them."""
        return (other.network, other.stop) == (self.network, self.start)

    def covers(self, other: "Block") -> bool:
        """Whether all nodes of `other` are among its own."""
        return self.network == other.network and self.start <= other.start and other.stop <= self.stop

    def to_dict(self) -> dict[str, Any]:
        """The block as JSON holds it, without what is not special of it."""
        found = {"network": self.network, "start": self.start, "stop": self.stop}
        special = {"width": self.width, "without": list(self.without)}
        found |= {key: value for key, value in special.items() if value not in (1.0, [])}
        return found | ({"shifted": True} if self.shifted else {})

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

    @property
    def words(self) -> str:
        """The networks and forms of its blocks, for people."""
        return " > ".join(f"{block.network} {block.form}".rstrip() for block in self.blocks)

    def runs(self) -> tuple[Block, ...]:
        """The same nodes in fewer blocks: neighbours in their own network, too, are one, if no channel is missing. What
        does not continue the one before stands behind a stitch.
        """
        found: list[Block] = []
        for block in (piece for whole in self.blocks for piece in whole.pieces()):
            if found and block.continues(found[-1]) and not (block.narrow or found[-1].narrow):
                found[-1] = Block(block.network, found[-1].start, block.stop)
            else:
                found.append(block)
        return tuple(found)

    def to_dict(self) -> dict[str, Any]:
        """The pick as JSON holds it."""
        return {"blocks": [block.to_dict() for block in self.blocks]}

    @classmethod
    def from_dict(cls, stored: Any) -> "Pick":
        """The inverse of `to_dict`. Raises BrickyardError naming the keys that are not right."""
        return parse(cls, stored)
