"""Assembly: components side by side in one network, without training (MDA, section 3.2)."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, Field
from torch import nn

from ...base.errors import BrickyardError
from ...base.stored import CHECKED, ClassNames, Name, Seal, parse
from ...channels.coupling import couple
from ...trace import cost, graph
from ...trace.cost import Cost, Counted
from ...trace.duplicate import duplicate
from ...zoo import networks as zoo
from ...zoo.architecture import MEMORY, Bounded, Trust
from .. import recount
from ..components import components
from . import padded, scaling
from .parallel import Parallel, widest
from .scaling import Scaling

Form = Literal["parallel", "padded"]


@dataclass(frozen=True)
class Recipe:
    """How an assembled network is built: the recipes of its parts, in the order of their outputs.

    form: branches (parallel), or one dense network of the parts' architecture (padded, the paper's); scaling: of the
    outputs; sha256: the checksum of the assembled weights.
    """

    parts: dict[Name, components.Recipe]
    form: Form
    scaling: Scaling
    cost: Counted
    sha256: Seal = ""

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
    def input(self) -> zoo.Input:
        """What it expects: what the part that sees most does."""
        return widest([part.input for part in self.parts.values()])

    def build(self, trust: Trust = False) -> nn.Module:
        """The assembled network with random weights; trust: as for `saved.load`."""
        room = Bounded(MEMORY)
        parts = {name: part.build(trust, room) for name, part in self.parts.items()}
        network = _assemble(parts, self.parts, self.form)
        return _scale(network, self, self.scaling)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "kind": "lego",
            "classes": self.classes,
            "input": asdict(self.input),
            "parts": {name: part.to_dict() for name, part in self.parts.items()},
            "form": self.form,
            "scaling": asdict(self.scaling),
            "cost": asdict(self.cost),
            "sha256": self.sha256,
        }

    @classmethod
    def from_dict(cls, recipe: Any) -> "Recipe":
        """The inverse of `to_dict`. Raises BrickyardError naming the key that is not right."""
        found = parse(Stored, recipe)
        parts = {}
        for name, part in found.parts.items():
            try:
                parts[name] = components.Recipe.from_dict(part)
            except BrickyardError as error:
                raise BrickyardError(f"parts.{name}: {error}") from None
        made = cls(parts, found.form, found.scaling, found.cost, found.sha256)
        if (found.classes, found.input) != (made.classes, made.input):
            raise BrickyardError("damaged: classes or input are not those of its parts; dvc repro")
        if not len(made.classes) == len(made.scaling.factors) == len(made.scaling.offsets):
            raise BrickyardError("damaged: scaling has not one factor and one offset a class; dvc repro")
        return made


class Stored(BaseModel):
    """recipe.json; the parts are checked one by one."""

    model_config = CHECKED
    kind: Literal["lego"]
    classes: ClassNames
    input: zoo.Input
    parts: Annotated[dict[Name, dict[str, Any]], Field(min_length=1, max_length=256)]
    form: Form
    scaling: Scaling
    cost: Counted
    sha256: Seal


def check(parts: Mapping[str, components.Recipe], form: Form) -> None:
    """Raises BrickyardError, naming two components, where they share a class or, padded, differ in architecture or
    input.
    """
    for (one, a), (other, b) in itertools.combinations(parts.items(), 2):
        for name in a.classes:
            if name in b.classes:
                raise BrickyardError(f"lego.components: {one} and {other} both have class {name!r}; take it from one")
        if form == "parallel":
            continue
        both = f"{one} (from {a.source.name}) and {other} (from {b.source.name})"
        if _kind(a.architecture) != _kind(b.architecture):
            raise BrickyardError(
                f"lego.components: {both} differ in architecture and cannot be padded layer by layer; "
                "write lego.form: parallel"
            )
        if a.input != b.input:
            raise BrickyardError(
                f"lego.components: {both} expect different input: {a.input} and {b.input}; padded, they share the "
                "image; write lego.form: parallel"
            )


def build(
    parts: Mapping[str, nn.Module], recipes: Mapping[str, components.Recipe], form: Form
) -> tuple[nn.Module, Recipe]:
    """Components by name, in the order of their outputs, -> the network that holds them all, not scaled; its recipe.

    Its logits are those of the components side by side. Raises BrickyardError as `check` does, and where the
    components' channels cannot be padded.
    """
    check(recipes, form)
    network = _assemble(parts, recipes, form)
    nothing = Scaling.none(sum(len(recipe.classes) for recipe in recipes.values()))
    recipe = Recipe(dict(recipes), form, nothing, Cost())
    counted = cost.count(network, recipe.input.shape)
    if form == "parallel":
        recount.check("lego", sum((part.cost for part in recipes.values()), Cost()), counted)
    return network, replace(recipe, cost=counted)


def scaled(
    network: nn.Module, recipe: Recipe, by: Scaling, limits: Mapping[str, float | None] | None = None
) -> tuple[nn.Module, Recipe]:
    """A copy of an assembled network whose logits go through `by`, in its last layers, and its recipe.

    limits: on parameters and MACs of an assembly in parallel form. Raises BrickyardError where one is exceeded.
    """
    before = {name for name, _ in network.named_parameters()}
    network = _scale(duplicate(network), recipe, by)
    counted = cost.count(network, recipe.input.shape)
    biases = sum(parameter.numel() for name, parameter in network.named_parameters() if name not in before)
    predicted = Cost(recipe.cost.params + biases, recipe.cost.macs)
    recount.check("lego", predicted, counted, limits if recipe.form == "parallel" else None)
    return network, replace(recipe, scaling=recipe.scaling.then(by), cost=counted)


def side_by_side(
    recipe: Recipe, logits: Mapping[str, torch.Tensor], classes: Mapping[str, Sequence[str]]
) -> torch.Tensor:
    """The control: logits [n, outputs] of the whole sources, restricted to the assembled classes, in their order.

    logits: source name -> [n, its classes]; classes: source name -> names of these.
    """
    columns = []
    for part in recipe.parts.values():
        known = list(classes[part.source.name])
        columns.append(logits[part.source.name][:, [known.index(name) for name in part.classes]])
    return torch.cat(columns, 1)


def _kind(architecture: zoo.Architecture) -> tuple[Any, ...]:
    """An architecture without the number of its classes."""
    return architecture.timm, architecture.torchvision, architecture.factory, architecture.sha256, architecture.kwargs


def _assemble(parts: Mapping[str, nn.Module], recipes: Mapping[str, components.Recipe], form: Form) -> nn.Module:
    inputs = [recipes[name].input for name in parts]
    if form == "padded":
        return padded.assemble(parts, inputs[0].shape)
    return Parallel([duplicate(part) for part in parts.values()], inputs, widest(inputs))


def _scale(network: nn.Module, recipe: Recipe, by: Scaling) -> nn.Module:
    """`network`, its logits put through `by`."""
    if isinstance(network, Parallel):
        inputs = [part.input for part in recipe.parts.values()]
        pieces = list(zip(network.networks, inputs, recipe.spans, strict=True))
    else:
        pieces = [(network, recipe.input, range(len(recipe.classes)))]
    for piece, expected, span in pieces:
        classifier = couple(graph.trace(piece, "lego", expected.shape), "lego").classifier.name
        scaling.fold(piece.get_submodule(classifier), by.of(span))
    return network
