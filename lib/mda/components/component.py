"""The recipe of a component: which channels, cut out, counted anew, repaired, described (MDA, section 3.1)."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path

import torch
from torch import nn

from ...base import artifacts, code, resume
from ...channels.cutting import Kept, cut
from ...images import data
from ...network import component as recipes
from ...network.source import Source
from ...params.components import Components, Repair
from ...params.contributions import Contributions
from ...trace import cost
from ...trace.duplicate import duplicate, evaluating
from ...zoo.card import Card
from .. import accuracies, classes, recount
from ..contributions.found import Found
from .repair import repair
from .sizing import Channels, Masked, sized


@dataclass(frozen=True, eq=False)
class Supplier:
    """A network that supplies components.

    module: the network, in eval mode, on the device on which they are made.
    card: its own.
    channels: which of them its components keep.
    """

    module: nn.Module
    card: Card
    channels: Channels


@dataclass(frozen=True, eq=False)
class Made:
    """A component that was made; both networks are in eval mode, on their source's device.

    module: repaired.
    unrepaired: as it was cut out.
    kept: layer name -> output channels of the source that it has.
    recipe: how it is built.
    """

    module: nn.Module
    unrepaired: nn.Module
    kept: dict[str, tuple[int, ...]]
    recipe: recipes.Component


def supplier(
    module: nn.Module,
    card: Card,
    found: Found,
    outputs: Sequence[int],
    images: data.DataSet,
    params: Components,
    contributions: Contributions,
    seed: int,
) -> Supplier:
    """A network as a supplier of components that have the thresholds' size, or that of `params.size` if it is set.

    module, card: the network, on the device on which components are to be made; a copy is taken if it is in train mode.
    found: what contributions left of it.
    outputs: its outputs, for the classes that will be asked for.
    images: the data set; from images of it, contributions are found again where a size is set.
    params, contributions: sections of params.yaml; their tasks and models do not matter.
    seed: of random scores.

    Raises BrickyardError naming a class of the network that the data set does not have.
    """
    module = evaluating(module)
    if params.size is None:
        return Supplier(module, card, Masked(found.masks))
    numbers, transform = classes.numbers(card.classes, images.classes, card.name), card.input.transform()
    batches = {
        output: data.Loader(
            images.images, found.selected[card.classes[output]].numpy(), transform, accuracies.BATCH_SIZE, numbers
        )
        for output in outputs
    }
    shape = card.input.shape
    return Supplier(
        module, card, sized(module, shape, batches, contributions, params.size, seed, card.name, params.keep)
    )


def make(
    task: str,
    source: Supplier,
    outputs: Sequence[int],
    images: data.DataSet,
    how: Repair,
    seed: int,
    scratch: Path | None = None,
) -> Made:
    """The component of a task: the channels that its classes need, cut out, counted anew, repaired and described.

    task: its name.
    source: the network; it is left as it is.
    outputs: of the source, those of the task's classes, ascending.
    images: the data set, from whose train images of these classes, without labels, it is repaired.
    how: it is repaired.
    seed: of the sample of images.
    scratch: a folder in which a run that was killed finds what it has repaired; None: nothing is kept.

    Raises BrickyardError where the classes are not of the data set, the component cannot have the size that is wanted,
    the channels cannot be told apart, or parameters and MACs are not those that were predicted.
    """
    who, shape = f"component {task}", source.card.input.shape
    kept = source.channels.kept(outputs, who)
    unrepaired = cut(source.module, kept, shape)
    recount.component(who, source.module, kept, unrepaired, shape)

    def repaired() -> nn.Module:
        return _repaired(source, unrepaired, kept, outputs, images, how, seed)

    if scratch is None:
        module = repaired()
    else:
        module = _remembered(scratch, _key(source, kept, outputs, images, how, seed), unrepaired, repaired)
    recipe = describe(task, module, kept, outputs, source.module, source.card, how.method)
    return Made(module, unrepaired, kept, recipe)


def describe(
    task: str,
    component: nn.Module,
    kept: Kept,
    outputs: Sequence[int],
    model: nn.Module,
    card: Card,
    repair: str = "none",
) -> recipes.Component:
    """The recipe of a component.

    task: its name.
    component: the network itself.
    kept: layer name -> the output channels of its source that it has.
    outputs: of the source, those that it has.
    model, card: its source.
    repair: the method by which it was repaired.
    """
    return recipes.Component(
        task=task,
        classes=tuple(card.classes[output] for output in outputs),
        source=replace(Source.of(card), checksum=artifacts.tensor_checksum(model.state_dict())),
        kept={layer: tuple(indices) for layer, indices in kept.items()},
        cost=cost.count(component, card.input.shape),
        repair=repair,
    )


def _repaired(
    source: Supplier,
    unrepaired: nn.Module,
    kept: Kept,
    outputs: Sequence[int],
    images: data.DataSet,
    how: Repair,
    seed: int,
) -> nn.Module:
    """A component, repaired on train images, as many of each of its classes, and of all as many as `how` wants."""
    card, every = source.card, images.images
    numbers = classes.numbers([card.classes[output] for output in outputs], every.classes, card.name)
    own = data.of_classes(every, images.train, numbers)

    def loader(count: int) -> data.Loader:
        index = data.stratified_sample(every, own, max(1, count // len(numbers)) * len(numbers), seed)
        return data.Loader(every, index, card.input.transform(), accuracies.BATCH_SIZE)

    x = loader(how.images).all()[0].to(_device(source))
    return repair(source.module, unrepaired, kept, x, how, loader(how.classifier_images))


def _remembered(scratch: Path, key: str, like: nn.Module, make: Callable[[], nn.Module]) -> nn.Module:
    """What `make` gives, or gave a run that was killed: a network such as `like` with other weights."""
    if (state := resume.load(scratch, key)) is not None:
        found = duplicate(like)
        found.load_state_dict(state)
        return found
    made = make()
    resume.save(scratch, key, made.state_dict())
    return made


def _key(source: Supplier, kept: Kept, outputs: Sequence[int], images: data.DataSet, how: Repair, seed: int) -> str:
    """Everything that a repaired component depends on."""
    state = artifacts.tensor_checksum(source.module.state_dict())
    own = {"source": [state, resume.made_of(source.module)], "kept": kept, "input": asdict(source.card.input)}
    names = [[output, source.card.classes[output]] for output in outputs]
    seen = {"images": images.images.checksum, "train": images.train.tolist(), "classes": names}
    run = {"seed": seed, "threads": torch.get_num_threads(), "device": str(_device(source)), "code": _code()}
    return resume.key_of({**own, **seen, "repair": how.model_dump(), **run})


def _device(source: Supplier) -> torch.device:
    return next(source.module.parameters()).device


@cache
def _code() -> str:
    """SHA-256 of the code that makes a component."""
    return code.digest([Path(__file__)])
