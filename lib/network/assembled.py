"""The recipe of an assembled network: components side by side, their scores made comparable (MDA, section 3.2)."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import fx, nn
from torch.nn import functional as F

from ..base.errors import BrickyardError
from ..base.stored import CHECKED, Name, Seal, parse_kind, stamped
from ..channels.channels import Layer
from ..channels.coupling import couple
from ..channels.operations import Operation
from ..trace import graph
from ..trace.cost import Counted
from ..trace.duplicate import duplicate
from ..trace.plain import is_hooked
from ..zoo.adapter import Prepared
from ..zoo.architecture import MEMORY, Bounded, Trust
from ..zoo.card import Input
from . import padded
from .component import Component
from .modules import Parallel
from .scaling import Scaled, Scaling, fold

Form = Literal["parallel", "padded"]
_PASSING: set[Any] = {  # a scaling of logits behind these is one before them
    nn.Identity, nn.Dropout, nn.Flatten, nn.AdaptiveAvgPool2d, F.adaptive_avg_pool2d, torch.mean, torch.Tensor.mean,
    torch.flatten, torch.squeeze, torch.reshape, torch.Tensor.flatten, torch.Tensor.squeeze, torch.Tensor.reshape,
    torch.Tensor.view,
}  # fmt: skip


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
    """`network`, its logits put through `by`: in its last layers or, where something follows these, behind it."""
    if not isinstance(network, Parallel):
        return _scaled(network, recipe.input.shape, by)
    for i, (part, span) in enumerate(zip(recipe.parts.values(), recipe.spans, strict=True)):
        branch = network.branches[i]
        if isinstance(branch, Prepared):
            branch.network = _scaled(branch.network, part.input.shape, by.of(span))
        else:
            network.branches[i] = _scaled(branch, part.input.shape, by.of(span))
    return network


def _scaled(piece: nn.Module, shape: tuple[int, ...], by: Scaling) -> nn.Module:
    """A network without branches of its own, scaled. What it becomes depends on its operations, not on its weights."""
    if by == Scaling.none(len(by.factors)):
        return piece
    if isinstance(piece, Scaled):
        return Scaled(piece.network, piece.by.then(by))
    found = graph.trace(piece, "lego", shape, costs=False)
    layer = couple(found, "lego").classifier
    if not _gives_logits(found, layer):
        return Scaled(piece, by)
    fold(piece.get_submodule(layer.name), by)
    return piece


def _gives_logits(found: graph.Trace, layer: Layer) -> bool:
    """Whether what `layer` makes leaves the network as it is, or put into another shape or averaged over space."""
    modules = dict(found.model.named_modules())
    operation = Operation(found.output, modules)
    while operation.function in _PASSING and not (operation.module and is_hooked(operation.module)):
        operation = Operation(operation.node.all_input_nodes[0], modules)
    bias = operation.bias  # of a function: not one that the layer is given as it is scaled
    own = operation.node.op == "call_module" or (isinstance(bias, fx.Node) and bias.target == f"{layer.name}.bias")
    return layer.alone and operation.name == layer.name and own
