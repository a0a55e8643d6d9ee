"""The recipe of an assembled network: components side by side, their scores made comparable (MDA, section 3.2)."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field
from torch import nn

from ..base.errors import BrickyardError
from ..base.stored import CHECKED, Name, Seal, parse_kind, stamped
from ..channels.coupling import couple
from ..trace import graph
from ..trace.cost import Counted
from ..trace.duplicate import duplicate
from ..zoo.architecture import MEMORY, Bounded, Trust
from ..zoo.card import Input
from . import padded
from .component import Component
from .modules import Parallel
from .scaling import Scaling, fold

Form = Literal["parallel", "padded"]


@dataclass(frozen=True)
class Assembled:
    """The recipe of an assembled network.

    parts: the recipes of its components, in the order of their outputs.
    form: branches (parallel), or one dense network of the parts' architecture (padded, the paper's).
    scaling: of the outputs.
    checksum: of the weights.
    """

    __pydantic_config__ = CHECKED
    kind: ClassVar[str] = "assembled"
    file: ClassVar[str] = "recipe.json"

    parts: Annotated[dict[Name, Component], Field(min_length=1, max_length=256)]
    form: Form
    scaling: Scaling
    cost: Counted
    checksum: Seal = ""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names, in the order of the outputs."""
        return tuple(name for part in self.parts.values() for name in part.classes)

    @property
    def spans(self) -> list[range]:
        """The outputs of each part."""
        ends = list(itertools.accumulate(len(part.classes) for part in self.parts.values()))
        return [range(start, end) for start, end in zip([0, *ends], ends, strict=False)]

    @property
    def input(self) -> Input:
        """What the network expects: what the part that sees most does."""
        return widest([part.input for part in self.parts.values()])

    @property
    def licences(self) -> tuple[str, ...]:
        """The licences of all sources."""
        return tuple(sorted({part.source.licence for part in self.parts.values()}))

    def build(self, trust: Trust = False, room: Bounded | None = None) -> nn.Module:
        """The network with random weights, in eval mode; trust, room: see `Architecture.build`."""
        room = room or Bounded(MEMORY)
        parts = {name: part.build(trust, room) for name, part in self.parts.items()}
        return scale(assemble(parts, self.parts, self.form), self, self.scaling)

    def to_dict(self) -> dict[str, Any]:
        """The recipe as JSON holds it."""
        return stamped(self.kind, asdict(self))

    @classmethod
    def from_dict(cls, recipe: Any) -> "Assembled":
        """The inverse of `to_dict`. Raises BrickyardError naming the key that is not right."""
        found = parse_kind(cls, cls.kind, recipe)
        if len(set(found.classes)) != len(found.classes):
            raise BrickyardError("damaged: two parts have a class in common; dvc repro")
        if not len(found.classes) == len(found.scaling.factors) == len(found.scaling.offsets):
            raise BrickyardError("damaged: scaling has not one factor and one offset a class; dvc repro")
        return found


def widest(inputs: Sequence[Input]) -> Input:
    """The input with the most pixels, from which all others can be prepared; the first of several."""
    return max(inputs, key=lambda one: one.size)


def assemble(parts: Mapping[str, nn.Module], recipes: Mapping[str, Component], form: Form) -> nn.Module:
    """Copies of components in one network, their logits side by side, in the order of `parts`; in eval mode.

    Raises BrickyardError where channels cannot be padded, see `padded.assemble`.
    """
    inputs = [recipes[name].input for name in parts]
    if form == "padded":
        return padded.assemble(parts, inputs[0].shape)
    return Parallel([duplicate(part) for part in parts.values()], inputs, widest(inputs))


def scale(network: nn.Module, recipe: Assembled, by: Scaling) -> nn.Module:
    """`network` itself, its logits put through `by` in its last layers."""
    if isinstance(network, Parallel):
        inputs = [part.input for part in recipe.parts.values()]
        pieces = list(zip(network.networks, inputs, recipe.spans, strict=True))
    else:
        pieces = [(network, recipe.input, range(len(recipe.classes)))]
    for piece, expected, span in pieces:
        classifier = couple(graph.trace(piece, "lego", expected.shape, costs=False), "lego").classifier.name
        fold(piece.get_submodule(classifier), by.of(span))
    return network
