"""What a network that is made here keeps of each network of the zoo that it was made from."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field
from torch import nn

from ..base.stored import CHECKED, MANY, Name, Seal, Text
from ..trace.cost import Counted
from ..zoo.architecture import Architecture, Bounded, Trust, trusted
from ..zoo.card import Card, Input


@dataclass(frozen=True)
class Source:
    """A network of the zoo that lent blocks or channels: enough to build its architecture again, and to give credit.

    weights: where they came from (`train`: trained here).
    checksum: of all of them.
    nodes: module paths that its user declared, if any.
    cost: of the whole network.
    """

    __pydantic_config__ = CHECKED

    name: Name
    architecture: Architecture
    input: Input
    nodes: Annotated[tuple[Text, ...], Field(max_length=MANY)]
    weights: Text
    licence: Text
    cost: Counted
    checksum: Seal

    @classmethod
    def of(cls, card: Card) -> "Source":
        """What a recipe needs of a network's card."""
        return cls(
            name=card.name,
            architecture=card.architecture,
            input=card.input,
            nodes=card.nodes,
            weights=card.weights,
            licence=card.licence,
            cost=card.cost,
            checksum=card.checksum,
        )

    def build(self, trust: Trust = False, room: Bounded | None = None) -> nn.Module:
        """The whole source with random weights, in eval mode; trust, room: see `Architecture.build`."""
        return self.architecture.build(trusted(trust, self.name, self.architecture), room)
