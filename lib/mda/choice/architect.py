"""The architect: prices and accuracies of networks on disk, a choice, and the components that it asks for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from lib import data, graph
from lib.coupling import couple
from lib.errors import BrickyardError
from lib.mda import classes, components, measure
from lib.mda.choice import ranking, solve
from lib.mda.choice.problem import Problem, Source, prices
from lib.mda.choice.ranking import Answers
from lib.mda.choice.solve import Choice
from lib.params.components import Repair
from lib.params.lego import Choose, Lego
from lib.zoo import Card


@dataclass(frozen=True)
class Network:
    """A network that can supply classes, in eval mode; masks: layer name -> bool [classes, channels]."""

    module: nn.Module
    card: Card
    masks: Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Tried:
    """A choice, and the accuracy in percent that `ranking.accuracy` finds on validation images."""

    choice: Choice
    accuracy: float

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        found = {"predicted_accuracy": self.choice.accuracy, "bound": self.choice.bound}
        size = {"params": self.choice.cost.params, "macs": self.choice.cost.macs}
        return {"tasks": self.choice.tasks, **found, "validation_accuracy": self.accuracy, **size}


def choose(
    networks: Mapping[str, Network], images: data.DataSet, params: Lego, wanted: Choose, seed: int, device: torch.device
) -> list[Tried]:
    """The choices of `solve.choices`, best first on validation images.

    Raises BrickyardError for a class without images, and where nothing can be chosen.
    """
    names = images.images.classes
    numbers = data.parse_classes(wanted.classes, names, "lego.choose.classes")
    train, validation = (data.of_classes(images.images, split, numbers) for split in (images.train, images.validation))
    for number in numbers:
        if not all((images.images.labels[split] == number).any() for split in (train, validation)):
            raise BrickyardError(
                f"lego.choose.classes: class {names[number]!r} lacks train or validation images; leave it out"
            )
    train = data.stratified_sample(images.images, train, params.scaling_images_per_class * len(numbers), seed)
    on_train, on_validation = (_answers(networks, images, index, numbers, device) for index in (train, validation))
    found = solve.choices(problem(networks, on_validation, [names[number] for number in numbers], wanted))
    method, ridge = params.scaling, params.scaling_ridge
    tried = [Tried(own, ranking.accuracy(own.tasks, on_train, on_validation, method, ridge)) for own in found]
    return sorted(tried, key=lambda one: (-one.accuracy, one.choice.cost.params))


def problem(networks: Mapping[str, Network], validation: Answers, wanted: Sequence[str], params: Choose) -> Problem:
    """The choice to be made. A class's accuracy is its network's on validation images of it, over the wanted classes
    that the network knows.
    """
    sources = []
    for name, network in networks.items():
        coupling = couple(graph.trace(network.module.cpu(), name, network.card.input.shape), name)
        found = prices(network.module, coupling, network.masks, network.card.classes)
        sources.append(Source(name, ranking.alone(name, validation, wanted), found))
    return Problem(tuple(wanted), tuple(sources), params.budget.params, params.budget.macs, params.least)


def build(
    chosen: Choice,
    networks: Mapping[str, Network],
    images: data.DataSet,
    how: Repair,
    seed: int,
    device: torch.device,
) -> tuple[dict[str, nn.Module], dict[str, components.Recipe]]:
    """The components of a choice, cut out and repaired on train images, and their recipes, by their networks' names."""
    parts, recipes = {}, {}
    for name, wanted in chosen.tasks.items():
        network, card = networks[name].module, networks[name].card
        outputs = sorted(card.classes.index(one) for one in wanted)
        kept = components.union(networks[name].masks, outputs)
        component = components.cut(network, kept, card.input.shape)
        numbers = classes.numbers(wanted, images.images.classes, name)
        network, component = network.to(device), component.to(device)
        parts[name] = components.repaired(network, component, kept, images, numbers, card.input, how, seed).cpu()
        recipes[name] = components.describe(name, parts[name], kept, outputs, network.cpu(), card, how.method)
    return parts, recipes


def _answers(
    networks: Mapping[str, Network], images: data.DataSet, index: np.ndarray, numbers: list[int], device: torch.device
) -> Answers:
    logits = {}
    for name, network in networks.items():
        transform = network.card.input.transform()
        loader = data.Loader(images.images, index, transform, measure.BATCH_SIZE, numbers)
        logits[name] = measure.logits(network.module.to(device), loader)[0]
    labels = [images.images.classes[label] for label in images.images.labels[index]]
    return Answers(logits, {name: network.card.classes for name, network in networks.items()}, labels)
