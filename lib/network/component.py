"""The recipe of a component: the part of a network that some classes need (MDA, section 3.1)."""

from dataclasses import asdict, dataclass
from typing import Annotated, Any, ClassVar

from pydantic import Field
from torch import nn

from ..base.stored import CHECKED, ClassNames, Indices, Name, Seal, Text, parse_kind, stamped
from ..channels.cutting import cut
from ..trace.cost import Counted
from ..zoo.architecture import Bounded, Trust
from ..zoo.card import Input
from .source import Source


@dataclass(frozen=True)
class Component:
    """The recipe of a task component.

    task: the name of its classes together.
    classes: names, in the order of the outputs.
    kept: indices of the kept output channels by layer of the source.
    repair: how it was repaired.
    checksum: of the component's own weights.
    """

    __pydantic_config__ = CHECKED
    kind: ClassVar[str] = "component"
    file: ClassVar[str] = "recipe.json"

    task: Name
    classes: Annotated[ClassNames, Field(min_length=1)]
    source: Source
    kept: dict[Text, Indices]
    cost: Counted
    repair: Name = "none"
    checksum: Seal = ""

    @property
    def input(self) -> Input:
        """What the network expects: what its source does."""
        return self.source.input

    @property
    def licences(self) -> tuple[str, ...]:
        """The licence of its source."""
        return (self.source.licence,)

    def build(self, trust: Trust = False, room: Bounded | None = None) -> nn.Module:
        """The component with random weights, in eval mode; trust, room: see `Architecture.build`."""
        return cut(self.source.build(trust, room), self.kept, self.input.shape)

    def to_dict(self) -> dict[str, Any]:
        """The recipe as JSON holds it."""
        return stamped(self.kind, asdict(self))

    @classmethod
    def from_dict(cls, recipe: Any) -> "Component":
        """The inverse of `to_dict`. Raises BrickyardError naming the key that is not right."""
        return parse_kind(cls, cls.kind, recipe)
