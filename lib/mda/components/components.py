"""Components: the part of a network that some classes need, cut out as a smaller network (MDA, section 3.1)."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import nn

from ...base import artifacts
from ...base.stored import CHECKED, ClassNames, Count, Indices, Name, Seal, Text, parse_kind
from ...channels.cutting import Kept, cut
from ...images import data
from ...params.components import Repair
from ...trace import cost
from ...trace.cost import Counted
from ...zoo import networks as zoo
from ...zoo.architecture import Bounded, Trust, trusted
from .. import accuracies
from .repair import repair


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


def union(masks: Mapping[str, torch.Tensor], outputs: Sequence[int]) -> dict[str, tuple[int, ...]]:
    """Layer name -> the channels that at least one class of a task needs; masks: bool [classes, channels]."""
    return {
        layer: tuple(mask[list(outputs)].any(0).nonzero().flatten().tolist()) for layer, mask in sorted(masks.items())
    }


def repaired(
    model: nn.Module,
    component: nn.Module,
    kept: Kept,
    images: data.DataSet,
    numbers: Sequence[int],
    expected: zoo.Input,
    how: Repair,
    seed: int,
) -> nn.Module:
    """A component of `model` as `how` wants it, repaired on train images of the data set's classes `numbers`."""
    own = data.of_classes(images.images, images.train, numbers)
    device = next(model.parameters()).device

    def loader(count: int) -> data.Loader:
        index = data.stratified_sample(images.images, own, max(1, count // len(numbers)) * len(numbers), seed)
        return data.Loader(images.images, index, expected.transform(), accuracies.BATCH_SIZE)

    x, _ = loader(how.images).all()
    return repair(model, component, kept, x.to(device), how, loader(how.classifier_images))


def describe(
    task: str,
    component: nn.Module,
    kept: Kept,
    outputs: Sequence[int],
    model: nn.Module,
    card: zoo.Card,
    repair: str = "none",
) -> Recipe:
    """The recipe of a component that was cut from `model`; outputs: those of the model that it keeps."""
    source = Source(
        name=card.name,
        weights=card.weights,
        licence=card.licence,
        sha256=artifacts.tensor_checksum(model.state_dict()),
        params=card.cost.params,
    )
    return Recipe(
        task=task,
        classes=tuple(card.classes[output] for output in outputs),
        source=source,
        architecture=card.architecture,
        input=card.input,
        kept={layer: tuple(indices) for layer, indices in kept.items()},
        cost=cost.count(component, card.input.shape),
        repair=repair,
    )
