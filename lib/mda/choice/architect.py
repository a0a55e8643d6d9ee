"""The architect: what networks say and cost, the choices that this suggests, and what comes of them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import nn

from ...base.errors import BrickyardError
from ...base.progress import track
from ...channels.coupling import couple
from ...network.component import Component
from ...params.components import Components, Repair
from ...params.contributions import Contributions
from ...params.lego import Choose
from ...trace import graph
from ...trace.cost import Cost
from ...trace.duplicate import evaluating
from ...zoo.card import Card
from .. import classes, recount
from ..components import component
from ..components.component import Supplier
from ..components.sizing import Sized
from ..contributions.found import Found
from . import prices, search, selection
from .evaluation import Evaluation
from .kept import Kept
from .offers import Problem, Source
from .prices import Prices
from .selection import Choice
from .whole import Whole


@dataclass(frozen=True)
class Tried:
    """A choice, put together. parts, recipes: its components and how they are built, by their networks' names;
    accuracy, predicted: in percent, on validation images that choose and on those that predict, see `ranking.accuracy`.
    """

    choice: Choice
    parts: dict[str, nn.Module]
    recipes: dict[str, Component]
    accuracy: float
    predicted: float

    def to_dict(self) -> dict[str, Any]:
        """The choice as JSON holds it; uncut: what whole networks have in its place, and a bound on that."""
        uncut = {"uncut_accuracy": self.choice.accuracy, "bound": self.choice.bound}
        found = {"validation_accuracy": self.accuracy, "predicted_accuracy": self.predicted}
        size = {"params": self.choice.cost.params, "macs": self.choice.cost.macs}
        return {"tasks": self.choice.tasks, **uncut, **found, **size}


@dataclass(frozen=True)
class Chosen:
    """tried: best first; looked_at, is_complete: see `search.Proposals`; images: see `Evaluation.counts`."""

    tried: list[Tried]
    looked_at: int
    is_complete: bool
    images: dict[str, int]

    def told(self, whole: Whole | None, measured: float) -> dict[str, Any]:
        """What JSON holds of it, beside the whole network that is its control, if any; measured: accuracy of the first
        on test images, in percent, which stands beside what was predicted.
        """
        searched = {"assignments": self.looked_at, "complete": self.is_complete, "images": self.images}
        predicted = self.tried[0].predicted
        both = {"predicted": predicted, "measured": measured, "difference": predicted - measured}
        tried = [one.to_dict() for one in self.tried]
        return {**tried[0], "prediction": both, "tried": tried, "searched": searched, "whole": whole and asdict(whole)}


def suppliers(
    networks: Mapping[str, tuple[nn.Module, Card, Found]],
    evaluation: Evaluation,
    params: Components,
    contributions: Contributions,
    seed: int,
) -> dict[str, Supplier]:
    """Networks, with what contributions left of them, as suppliers of the wanted classes, on the evaluation's device.

    Those that are elsewhere are copied there. Arguments and errors as for `component.supplier`.
    """
    return {
        name: component.supplier(
            evaluating(module, evaluation.device),
            card,
            found,
            classes.known(evaluation.classes, card.classes),
            evaluation.images,
            params,
            contributions,
            seed,
        )
        for name, (module, card, found) in networks.items()
    }


def choose(
    networks: Mapping[str, Supplier], evaluation: Evaluation, wanted: Choose, how: Repair, seed: int, scratch: Path
) -> Chosen:
    """The choices of `search.propose`, cut out, repaired as `how` says and scaled; best first on images that choose.

    networks: by name; they are left as they are.
    evaluation: the images, and how assemblies are scaled.
    wanted: classes, budget, and how many classes a network supplies at least.
    how: components are repaired.
    seed: of the samples of images.
    scratch: a folder in which a killed run finds what it has repaired.

    Each component is what `component.make` makes for a task with its classes, of the size that `networks` give it; the
    networks of the result are on the CPU. Raises BrickyardError where nothing can be chosen.
    """
    selection.check_known(evaluation.classes, {name: one.card.classes for name, one in networks.items()})
    kept, judge = evaluation.kept({name: (one.module, one.card) for name, one in networks.items()})
    found = search.propose(problem(networks, kept, wanted, evaluation.has_offsets), kept, judge)
    tasks = dict.fromkeys(task for choice in found.choices for task in choice.tasks.items())
    made = {
        (name, own): _made(name, networks[name], own, evaluation, how, seed, scratch)
        for name, own in track(tasks, "lego.choose", len(tasks))
    }
    tried = []
    for choice in found.choices:
        own = {task[0]: made[task] for task in choice.tasks.items()}
        parts = {name: module for name, (module, _) in own.items()}
        recipes = {name: recipe for name, (_, recipe) in own.items()}
        counted = sum((recipe.cost for recipe in recipes.values()), Cost())
        for name, recipe in recipes.items():
            counted += Cost(len(recipe.classes) * (evaluation.has_offsets and not _has_bias(networks[name])))
        recount.check(f"lego.choose: {' and '.join(recipes)}", choice.cost, counted, wanted.budget.model_dump())
        accuracies = evaluation.accuracy(choice.tasks, own, "choosing", "predicting")
        tried.append(Tried(choice, parts, recipes, *accuracies))
    tried.sort(key=lambda one: (-one.accuracy, one.choice.cost.params))
    return Chosen(tried, found.looked_at, found.is_complete, evaluation.counts)


def problem(
    networks: Mapping[str, Supplier],
    kept: Kept,
    params: Choose,
    has_offsets: bool = False,
) -> Problem:
    """The choice to be made.

    networks: by name.
    kept: what they say to images; its classes are the wanted ones, in the order of the assembly's outputs, their
        accuracies what each has at best.
    params: the budget, and how many classes a network supplies at least.
    has_offsets: whether scaling gives biases to classifiers that have none.

    Components whose size is given (components.size) keep other channels for every set of classes, so each set has a
    price of its own. Raises BrickyardError where these are more than `prices.SETS`.
    """
    accuracy = kept.at_best
    known = {name: list(accuracy[name]) for name in networks}
    sized = [known[name] for name, network in networks.items() if isinstance(network.channels, Sized)]
    if (count := prices.sets(sized, params.least)) > prices.SETS:
        raise BrickyardError(
            f"lego.choose: with components.size, each of {count:,} sets of classes is priced by itself, of "
            f"{prices.SETS:,} at most; name fewer classes or models, raise least, or write components.size: null"
        )
    sources = []
    for name, network in networks.items():
        found = _prices(network, known[name], params.least)
        if has_offsets and not _has_bias(network):
            found = found.plus(Cost(params=1), network.card.classes)
        sources.append(Source(name, accuracy[name], found))
    return Problem(kept.classes, tuple(sources), params.budget.params, params.budget.macs, params.least)


def _prices(network: Supplier, wanted: Sequence[str], least: int) -> Prices:
    card, channels = network.card, network.channels
    if isinstance(channels, Sized):
        return prices.listed(channels, card.classes, wanted, least, card.name)
    coupling = couple(graph.trace(network.module, card.name, card.input.shape), card.name)
    return prices.shared(network.module, coupling, channels.masks, card.classes)


def _has_bias(network: Supplier) -> bool:
    """Whether its classifier has one."""
    card = network.card
    coupling = couple(graph.trace(network.module, card.name, card.input.shape, costs=False), card.name)
    return network.module.get_submodule(coupling.classifier.name).bias is not None


def _made(
    name: str,
    network: Supplier,
    wanted: Sequence[str],
    evaluation: Evaluation,
    how: Repair,
    seed: int,
    scratch: Path,
) -> tuple[nn.Module, Component]:
    """The component of a network with some classes, on the CPU, and its recipe."""
    outputs = sorted(network.card.classes.index(one) for one in wanted)
    made = component.make(name, network, outputs, evaluation.images, how, seed, scratch)
    return made.module.cpu(), made.recipe
