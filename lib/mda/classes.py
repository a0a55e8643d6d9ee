"""Class names: a data set numbers its classes in one way, a network and a task in others."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ..base.errors import BrickyardError
from ..images import data

if TYPE_CHECKING:
    from ..params.components import Task


def numbers(classes: Sequence[str], names: Sequence[str], who: str) -> list[int]:
    """A network's or component's classes as numbers of the data set, whose class names are `names`, in its own order.

    Raises BrickyardError naming a class that the data set does not have.
    """
    if not classes:
        raise BrickyardError(f"{who}: the names of its classes are not known, so no images of them can be found")
    for name in classes:
        if name not in names:
            raise BrickyardError(f"{who}: the data set has no class {name!r}; it has {', '.join(names)}")
    return [list(names).index(name) for name in classes]


def known(wanted: Sequence[str], classes: Sequence[str]) -> list[int]:
    """The outputs, ascending, that a network with these classes has for those of the wanted ones that it knows."""
    return [output for output, name in enumerate(classes) if name in wanted]


def check_tasks(tasks: Mapping[str, "Task"], models: Sequence[str]) -> None:
    """Raises BrickyardError naming a task whose network is not taken apart."""
    for name, task in tasks.items():
        if task.model not in models:
            raise BrickyardError(
                f"components.tasks.{name}: model {task.model!r} is not one of contributions.models: {', '.join(models)}"
            )


def check_chosen(chosen: Sequence[str], there: Sequence[str]) -> None:
    """Raises BrickyardError naming a component that no task makes or that is named twice."""
    for name in chosen:
        if name not in there:
            raise BrickyardError(f"lego.components: {name!r} is not one of components.tasks: {', '.join(there)}")
        if chosen.count(name) > 1:
            raise BrickyardError(f"lego.components: {name!r} is named twice")


def check_models(chosen: Sequence[str], taken_apart: Sequence[str]) -> None:
    """Raises BrickyardError naming a network that is to supply classes but is not taken apart, or is named twice."""
    for name in chosen:
        if name not in taken_apart:
            known = ", ".join(taken_apart)
            raise BrickyardError(f"lego.choose.models: {name!r} is not one of contributions.models: {known}")
        if chosen.count(name) > 1:
            raise BrickyardError(f"lego.choose.models: {name!r} is named twice")


def outputs(task: str, text: str, names: Sequence[str], known: Sequence[str], model: str) -> list[int]:
    """The outputs, ascending, that a network with classes `known` has for a task's classes `text`.

    names: the data set's classes, in which `text` is read. Raises BrickyardError naming a class that the network
    does not know.
    """
    wanted = [names[c] for c in data.parse_classes(text, names, f"components.tasks.{task}.classes")]
    for name in wanted:
        if name not in known:
            has = ", ".join(known) or "no class of this data set"
            raise BrickyardError(f"components.tasks.{task}: {model} does not know class {name!r}; it knows {has}")
    return sorted(list(known).index(name) for name in wanted)
