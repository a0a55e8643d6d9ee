"""The rival of one's own shelf made smaller: whole networks cut by MDA for all their classes, and repaired."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from torch import nn

from lib.images.data import DataSet, stratified_sample
from lib.mda.components import component
from lib.network import files
from lib.network.component import Component
from lib.params.base import read
from lib.params.components import Components, Repair, Size, Task
from lib.params.contributions import Contributions
from lib.params.run import Run
from lib.zoo.card import Card
from stages import prepare
from stages.contributions import find


def pruned(
    zoo: Path, names: Sequence[str], images: DataSet, shares: Sequence[float], repair: Repair, count: int
) -> Iterator[tuple[str, nn.Module, Component]]:
    """Every network that knows all classes of the task at every share of its parameters: its name, itself, its recipe.

    zoo: folder of the networks.
    names: of them.
    images: of the task.
    shares: of parameters that stay.
    repair: how what is cut is repaired.
    count: train images among which those for contributions are selected.
    """
    params, seed = read("contributions", Contributions), read("run", Run).seed
    device = prepare(read("run", Run))
    few = replace(images, train=stratified_sample(images.images, images.train, count, seed))
    for name in names:
        network, card = files.load_as(Card, zoo / name, trust=True)
        if card.classes != images.classes:
            continue
        found, outputs = find(network, card, few, params, (), seed, device), list(range(len(card.classes)))
        for share in shares:
            wanted = Components(tasks={name: Task(model=name, classes="all")}, size=Size(params=share), repair=repair)
            source = component.supplier(network, card, found, outputs, few, wanted, params, seed)
            made = component.make(name, source, outputs, images, repair, seed)
            yield f"{name} cut to {share:.0%}", made.module.cpu(), made.recipe
