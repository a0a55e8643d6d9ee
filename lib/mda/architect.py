"""The architect: prices and accuracies of networks on disk, a choice, and the components that it asks for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from lib import data, graph
from lib.coupling import couple
from lib.mda import choice, classes, components, measure
from lib.mda.problem import Problem, Source, prices
from lib.params.components import Repair
from lib.params.lego import Choose
from lib.zoo import Card


@dataclass(frozen=True)
class Network:
    """A network that can supply classes, in eval mode; masks: layer name -> bool [classes, channels]."""

    module: nn.Module
    card: Card
    masks: Mapping[str, torch.Tensor]


def problem(networks: Mapping[str, Network], images: data.DataSet, params: Choose, device: torch.device) -> Problem:
    """The choice to be made. A class's accuracy is its network's on validation images of it, over the wanted classes
    that the network knows.
    """
    names = images.images.classes
    wanted = tuple(names[number] for number in data.parse_classes(params.classes, names, "lego.choose.classes"))
    sources = []
    for name, network in networks.items():
        card = network.card
        known = [output for output, found in enumerate(card.classes) if found in wanted]
        accuracy = {}
        if known:
            numbers = classes.numbers([card.classes[output] for output in known], names, f"lego.choose.models: {name}")
            index = data.of_classes(images.images, images.validation, numbers)
            logits, labels = measure.logits(network.module.to(device), _loader(images, index, card, numbers))
            right = logits[:, known].argmax(1) == labels
            accuracy = {names[n]: 100 * right[labels == i].double().mean().item() for i, n in enumerate(numbers)}
        coupling = couple(graph.trace(network.module.cpu(), name, card.input.shape), name)
        found = prices(network.module, coupling, network.masks, card.classes)
        sources.append(Source(name, accuracy, found))
    return Problem(wanted, tuple(sources), params.budget.params, params.budget.macs, params.least)


def build(
    chosen: choice.Choice,
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


def _loader(images: data.DataSet, index: np.ndarray, card: Card, numbers: Sequence[int]) -> data.Loader:
    return data.Loader(images.images, index, card.input.transform(), measure.BATCH_SIZE, numbers)
