"""Components: the part of a network that some classes need, cut out as a smaller network (MDA, section 3.1)."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import nn

from ...base import artifacts
from ...channels.cutting import Kept
from ...images import data
from ...network.component import Component
from ...network.source import Source
from ...params.components import Repair
from ...trace import cost
from ...zoo.card import Card, Input
from .. import accuracies
from .repair import repair


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
    expected: Input,
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
    card: Card,
    repair: str = "none",
) -> Component:
    """The recipe of a component that was cut from `model`; outputs: those of the model that it keeps."""
    return Component(
        task=task,
        classes=tuple(card.classes[output] for output in outputs),
        source=replace(Source.of(card), checksum=artifacts.tensor_checksum(model.state_dict())),
        kept={layer: tuple(indices) for layer, indices in kept.items()},
        cost=cost.count(component, card.input.shape),
        repair=repair,
    )
