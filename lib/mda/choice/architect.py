"""The architect: prices and accuracies of networks, the choices that these suggest, and what comes of them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...base import code, resume
from ...base.artifacts import tensor_checksum
from ...base.progress import track
from ...channels.coupling import couple
from ...channels.cutting import cut
from ...network.component import Component
from ...params.components import Repair
from ...params.lego import Choose
from ...trace import graph
from ...trace.cost import Cost
from ...zoo.card import Card
from .. import classes, recount
from ..components import components
from . import ranking, selection
from .evaluation import Evaluation
from .offers import Problem, Source, prices
from .ranking import Answers
from .selection import Choice

_CODE = code.digest([Path(__file__)])


@dataclass(frozen=True)
class Network:
    """A network that can supply classes, in eval mode; masks: layer name -> bool [classes, channels]."""

    module: nn.Module
    card: Card
    masks: Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Tried:
    """A choice, put together. parts, recipes: its components and how they are built, by their networks' names;
    accuracy: on validation images, in percent, see `ranking.accuracy`.
    """

    choice: Choice
    parts: dict[str, nn.Module]
    recipes: dict[str, Component]
    accuracy: float

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        found = {"predicted_accuracy": self.choice.accuracy, "bound": self.choice.bound}
        size = {"params": self.choice.cost.params, "macs": self.choice.cost.macs}
        return {"tasks": self.choice.tasks, **found, "validation_accuracy": self.accuracy, **size}


def choose(
    networks: Mapping[str, Network], evaluation: Evaluation, wanted: Choose, how: Repair, seed: int, scratch: Path
) -> list[Tried]:
    """The choices of `selection.choices`, cut out, repaired as `how` says and scaled; best first on validation images.

    scratch: a folder in which a killed run finds what it has repaired. Raises BrickyardError where nothing can be
    chosen.
    """
    whole = {name: (one.module, one.card) for name, one in networks.items()}
    answers = evaluation.answers("validation", whole)
    found = selection.choices(problem(networks, answers, evaluation.classes, wanted, evaluation.has_offsets))
    tasks = dict.fromkeys(task for choice in found for task in choice.tasks.items())
    made = {
        task: component(networks[task[0]], *task, evaluation, how, seed, scratch)
        for task in track(tasks, "lego.choose", len(tasks))
    }
    tried = []
    for choice in found:
        own = {task[0]: made[task] for task in choice.tasks.items()}
        parts = {name: module for name, (module, _) in own.items()}
        recipes = {name: recipe for name, (_, recipe) in own.items()}
        counted = sum((recipe.cost for recipe in recipes.values()), Cost())
        for name, recipe in recipes.items():
            counted += Cost(len(recipe.classes) * (evaluation.has_offsets and not _has_bias(networks[name])))
        recount.check(f"lego.choose: {' and '.join(recipes)}", choice.cost, counted, wanted.budget.model_dump())
        tried.append(Tried(choice, parts, recipes, evaluation.accuracy(choice.tasks, own, "validation")))
    return sorted(tried, key=lambda one: (-one.accuracy, one.choice.cost.params))


def problem(
    networks: Mapping[str, Network],
    validation: Answers,
    wanted: Sequence[str],
    params: Choose,
    has_offsets: bool = False,
) -> Problem:
    """The choice to be made. A class's accuracy is its network's on validation images of it, over the wanted classes
    that the network knows. has_offsets: whether scaling gives biases to classifiers that have none.
    """
    sources = []
    for name, network in networks.items():
        coupling = couple(graph.trace(network.module.cpu(), name, network.card.input.shape), name)
        found = prices(network.module, coupling, network.masks, network.card.classes)
        if has_offsets and not _has_bias(network):
            for own in (frozenset({frozenset({one})}) for one in network.card.classes):
                found[own] = found.get(own, Cost()) + Cost(params=1)
        sources.append(Source(name, ranking.alone(name, validation, wanted), found))
    return Problem(tuple(wanted), tuple(sources), params.budget.params, params.budget.macs, params.least)


def _has_bias(network: Network) -> bool:
    """Whether its classifier has one."""
    coupling = couple(graph.trace(network.module, network.card.name, network.card.input.shape), network.card.name)
    return network.module.get_submodule(coupling.classifier.name).bias is not None


def component(
    network: Network,
    name: str,
    wanted: Sequence[str],
    evaluation: Evaluation,
    how: Repair,
    seed: int,
    scratch: Path,
) -> tuple[nn.Module, Component]:
    """The component of a network with some classes, cut out and repaired on train images, and its recipe.

    It is taken from `scratch` where a run that was killed has left it, else repaired and left there.
    """
    source, card, images = network.module, network.card, evaluation.images
    outputs = sorted(card.classes.index(one) for one in wanted)
    kept = components.union(network.masks, outputs)
    made = cut(source, kept, card.input.shape)
    recount.component(f"lego.choose: {name}", source, kept, made, card.input.shape)
    own = {"source": [tensor_checksum(source.state_dict()), resume.made_of(source)], "kept": kept}
    seen = {"images": images.images.checksum, "train": images.train.tolist(), "classes": outputs}
    run = {"seed": seed, "threads": torch.get_num_threads(), "device": str(evaluation.device), "code": _CODE}
    key = resume.key_of({**own, **seen, "input": asdict(card.input), "repair": how.model_dump(), **run})
    if (state := resume.load(scratch, key)) is not None:
        made.load_state_dict(state)
    else:
        numbers = classes.numbers([card.classes[output] for output in outputs], images.classes, name)
        source, made = source.to(evaluation.device), made.to(evaluation.device)
        made = components.repaired(source, made, kept, images, numbers, card.input, how, seed).cpu()
        resume.save(scratch, key, made.state_dict())
    return made, components.describe(name, made, kept, outputs, source.cpu(), card, how.method)
