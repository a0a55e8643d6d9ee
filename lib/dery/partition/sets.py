"""The cover-set partition as it is found, stored and read: equivalence sets of blocks (DeRy, section 3.3, Eq. 2-5)."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from ...base import artifacts
from ...base.errors import BrickyardError
from ...base.stored import CHECKED, Count, Name, Text, parse
from ...network.blocks import Block

Cuts = tuple[int, ...]  # K+1 positions 0..L_m of a network of L_m nodes
Size = Literal["nodes", "params", "macs"]
PROVED = 1e-7  # relative gap below which a partition is called optimal: what HiGHS's tolerances leave


@dataclass(frozen=True)
class Member:
    """A block of an equivalence set.

    nodes: their names.
    size: in the unit of its partition.
    similarity_to_anchor: S to the anchor of the set.
    """

    __pydantic_config__ = CHECKED

    block: Block
    nodes: tuple[Text, ...]
    size: Count
    similarity_to_anchor: float


@dataclass(frozen=True)
class EquivalenceSet:
    """One block of every network; anchor: the network whose block is the anchor."""

    __pydantic_config__ = CHECKED

    anchor: Name
    members: Annotated[tuple[Member, ...], Field(min_length=1)]


@dataclass(frozen=True)
class Partition:
    """K equivalence sets, which hold the blocks of all networks in the order of their depth.

    size: the unit of sizes and limits; weights: w_start, w_end, of the ends of blocks in S; limits: of each network the
    size that its blocks may have; objective: J; random: J_rand, the mean over random legal cuts with medoid anchors;
    bound: a proven upper bound on J, None where none was asked for; violations: blocks beyond the size limit, counted;
    status: how the search ended.
    """

    __pydantic_config__ = CHECKED

    size: Size
    weights: tuple[float, float]
    objective: float
    bound: float | None
    random: float
    violations: Count
    status: Text
    limits: dict[Name, Count]
    sets: Annotated[tuple[EquivalenceSet, ...], Field(min_length=1)]

    @property
    def num_blocks(self) -> int:
        """The number of equivalence sets, K."""
        return len(self.sets)

    @property
    def networks(self) -> tuple[str, ...]:
        """Names, in the order of the members of every set."""
        return tuple(self.limits)

    @property
    def cuts(self) -> dict[str, Cuts]:
        """For each network the K+1 positions where its blocks begin and end."""
        found = {}
        for name in self.networks:
            own = [member.block for member in self.members(name)]
            found[name] = (own[0].start, *(block.stop for block in own))
        return found

    def members(self, network: str) -> tuple[Member, ...]:
        """The blocks of a network, one a set."""
        place = self.networks.index(network)
        return tuple(one.members[place] for one in self.sets)

    @property
    def gap(self) -> float | None:
        """(bound - J) / |J|, None without a bound."""
        return None if self.bound is None else relative_gap(self.objective, self.bound)

    @property
    def gap_closed(self) -> float | None:
        """(J - J_rand) / (J* - J_rand) in percent, at least, with the bound for J*, so 100 where J is proved to be the
        optimum; None without a bound.
        """
        if self.bound is None:
            return None
        if relative_gap(self.objective, self.bound) <= PROVED or self.bound <= self.random:
            return 100.0
        return 100 * (self.objective - self.random) / (self.bound - self.random)

    def figures(self) -> dict[str, Any]:
        """What is compared across runs, for JSON."""
        names = ("objective", "bound", "gap", "gap_closed", "random", "violations")
        return {name: getattr(self, name) for name in names}

    def to_dict(self) -> dict[str, Any]:
        """The partition as JSON holds it."""
        sets = [
            {"anchor": one.anchor, "members": [asdict(own) | {"block": own.block.to_dict()} for own in one.members]}
            for one in self.sets
        ]
        return asdict(self) | {"sets": sets}

    @classmethod
    def from_dict(cls, stored: Any) -> "Partition":
        """The inverse of `to_dict`. Raises BrickyardError naming what is not right."""
        return parse(cls, stored)._checked()

    @classmethod
    def read(cls, file: Path) -> "Partition":
        """What stage `partition` left. Raises BrickyardError naming a file that is missing, damaged or another form."""
        stored = artifacts.read_json(file)
        try:
            return cls.from_dict(stored)
        except BrickyardError as error:
            raise BrickyardError(f"{file}: {error}") from None

    def _checked(self) -> "Partition":
        """Raises BrickyardError unless every set has one block of every network, each where the one before it ends."""
        ends = dict.fromkeys(self.networks, 0)
        for k, one in enumerate(self.sets, start=1):
            given = tuple(member.block.network for member in one.members)
            if given != self.networks or one.anchor not in given:
                raise BrickyardError(
                    f"damaged: set {k} has blocks of {', '.join(given)} and its anchor is of {one.anchor}; should be "
                    f"one block each of {', '.join(self.networks)}; dvc repro"
                )
            for member in one.members:
                block = member.block
                if block.start != ends[block.network]:
                    raise BrickyardError(
                        f"damaged: the block {block} of set {k} should begin at {ends[block.network]}; dvc repro"
                    )
                ends[block.network] = block.stop
        return self


def relative_gap(objective: float, bound: float) -> float:
    """The relative gap, (bound - J) / |J|."""
    return (bound - objective) / max(abs(objective), 1e-12)
