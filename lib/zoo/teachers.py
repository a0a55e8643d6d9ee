"""Teachers of a distillation: networks of the zoo, alone or several, whose mean logits a student learns from."""

import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import torch
from jaxtyping import Float
from torch import nn

from ..base.errors import BrickyardError
from ..params.training import BUDGET, ENSEMBLE
from ..trace.logits import logits
from .adapter import Prepared
from .card import Card, Input


class Known(Protocol):
    """What a network's card or recipe says of it."""

    @property
    def input(self) -> Input:
        """What the network expects."""
        ...

    @property
    def classes(self) -> tuple[str, ...]:
        """Names, in the order of its outputs."""
        ...


Networks = Sequence[tuple[nn.Module, Known]]


class Teacher(nn.Module):
    """What copies of networks answer in the mean, each for images prepared as it expects them, see `Adapter`: they are
    the student's own, with all that its augmentation made of them.

    networks: each knows all of `classes`, and answers for these alone, in their order.
    given: how the student's images are prepared.
    """

    def __init__(self, networks: Networks, classes: Sequence[str], given: Input):
        super().__init__()
        self.networks = nn.ModuleList(Prepared(network, known.input, given) for network, known in networks)
        self.columns = [[known.classes.index(name) for name in classes] for _, known in networks]
        self.eval()

    def forward(self, x: Float[torch.Tensor, "n 3 h w"]) -> Float[torch.Tensor, "n classes"]:
        """Images under the student's transform -> the mean of the networks' logits."""
        pairs = zip(self.networks, self.columns, strict=True)
        return torch.stack([logits(network(x))[:, columns].float() for network, columns in pairs]).mean(0)


def named(
    key: str, teacher: str, known: Mapping[str, Sequence[str]], classes: Sequence[str], best: str | None = None
) -> list[str]:
    """The networks of the zoo that a value of params.yaml means: the one of that name; `ensemble`: all that know the
    task's classes; `budget`: the best.

    key: under which `teacher`, the value, stands.
    known: the classes of each network of the zoo.
    classes: those of the task.
    best: the best network within the budget, if there is one.

    Raises BrickyardError naming the key where there is no such network, or it lacks a class.
    """
    able = sorted(name for name, its in known.items() if set(classes) <= set(its))
    chosen = {BUDGET: [] if best is None else [best], ENSEMBLE: able}.get(teacher, [teacher])
    if chosen and set(chosen) <= set(able):
        return chosen
    others = f"; name one that knows all: {', '.join(able)}" if able else ""
    if teacher == BUDGET:
        raise BrickyardError(f"{key} = {teacher!r}: no network of the zoo is within the budget{others}")
    if teacher == ENSEMBLE:
        raise BrickyardError(f"{key} = {teacher!r}: no network of the zoo knows all classes of the task")
    if teacher not in known:
        raise BrickyardError(f"{key} = {teacher!r}: is not one of zoo.models{others}")
    lacking = next(name for name in classes if name not in known[teacher])
    raise BrickyardError(f"{key} = {teacher!r}: does not know class {lacking!r}{others}")


def lent(protocols: Mapping[str, str], cards: Iterable[Card], classes: Sequence[str]) -> list[str]:
    """The networks that `finetune` needs besides the best one within the budget, by name; protocols: their `teacher`.

    Raises BrickyardError as `named` does.
    """
    known = {card.name: card.classes for card in cards}
    others = {f"finetune.{name}.teacher": teacher for name, teacher in protocols.items() if teacher != BUDGET}
    return sorted({name for key, teacher in others.items() for name in named(key, teacher, known, classes)})


def lend(names: Iterable[str], zoo: Path, folder: Path) -> None:
    """Writes copies of networks of the zoo, as they lie there, to `folder`."""
    for name in names:
        shutil.copytree(zoo / name, folder / name, copy_function=shutil.copyfile)
