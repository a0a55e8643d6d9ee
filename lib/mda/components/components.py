"""How a component is stored: what it was cut from, which channels it keeps, what it costs."""

from dataclasses import asdict, dataclass
from typing import Annotated, Any

from pydantic import Field
from torch import nn

from ...base.stored import CHECKED, ClassNames, Count, Indices, Name, Seal, Text, parse_kind
from ...channels.cutting import cut
from ...trace.cost import Counted
from ...zoo import networks as zoo
from ...zoo.architecture import Bounded, Trust, trusted


@dataclass(frozen=True)
class Source:
    """The network that a component was cut from; sha256: the checksum of its weights; params: how many they are."""

    __pydantic_config__ = CHECKED

    name: Name
    weights: Text
    licence: Text
    sha256: Seal
    params: Count


@dataclass(frozen=True)
class Recipe:
    """How a component is built: its source's architecture, and the indices of the kept output channels by layer.

    classes: names, in the order of the outputs; repair: how it was repaired; sha256: the checksum of the component's
    own weights.
    """

    __pydantic_config__ = CHECKED

    task: Name
    classes: Annotated[ClassNames, Field(min_length=1)]
    source: Source
    architecture: zoo.Architecture
    input: zoo.Input
    kept: dict[Text, Indices]
    cost: Counted
    repair: Name = "none"
    sha256: Seal = ""

    def build(self, trust: Trust = False, room: Bounded | None = None) -> nn.Module:
        """The component with random weights; trust: as for `saved.load`; room: what its source may take."""
        allowed = trusted(trust, self.source.name, self.architecture)
        return cut(self.architecture.build(allowed, room), self.kept, self.input.shape)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"kind": "component", **asdict(self)}

    @classmethod
    def from_dict(cls, recipe: Any) -> "Recipe":
        """The inverse of `to_dict`. Raises BrickyardError naming the key that is not right."""
        return parse_kind(cls, "component", recipe)
