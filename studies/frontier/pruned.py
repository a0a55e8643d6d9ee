"""The rival of one's own shelf made smaller: whole networks cut by MDA for all their classes, and repaired."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import nn

from lib.base.errors import BrickyardError
from lib.dery.combining import CLOSE, last_layer
from lib.dery.paths.tables import Kind
from lib.fit.stacking import Stacked
from lib.images.data import DataSet, stratified_sample
from lib.mda.components import component
from lib.network import files
from lib.network.component import Component
from lib.params.base import read
from lib.params.components import Components, Repair, Size, Task
from lib.params.contributions import Contributions
from lib.params.run import Run
from lib.trace.duplicate import duplicate
from lib.zoo.card import Card
from stages import SCRATCH, prepare
from stages.contributions import find
from studies.frontier.questions import KINDS, Questions, ask


@dataclass(frozen=True, eq=False)
class Pruned:
    """A whole network that MDA has cut, and its logits on all images that are asked.

    stackable: whether a map of its logits can be folded into its last layer.
    """

    name: str
    network: nn.Module
    recipe: Component
    said: Float[torch.Tensor, "n classes"]
    stackable: bool

    @property
    def cost(self) -> Mapping[Kind, float]:
        """Of each kind."""
        return {kind: getattr(self.recipe.cost, kind) for kind in KINDS}

    @torch.no_grad()
    def folded(self, by: Stacked | None, x: torch.Tensor) -> nn.Module:
        """The network with a map of its logits in its last layer, checked on images x; its own where there is none."""
        if by is None:
            return self.network
        made, before = duplicate(self.network), self.network(x.clone())
        layer = last_layer(made, x)
        assert layer is not None, f"{self.name} has no last linear layer"
        weight, bias = by.maps[0].T @ layer.weight.double(), by.maps[0].T @ layer.bias.double() + by.offset
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)
        change, scale = made(x.clone()) - by(before[None]), before.double().abs() @ by.maps[0].abs()
        if not float(change.abs().max()) <= CLOSE * float(scale.max() + by.offset.abs().max()):
            raise BrickyardError(f"{self.name}: stacking changed in its last layer by more than rounding")
        return made


def pruned(
    zoo: Path,
    names: Sequence[str],
    images: DataSet,
    shares: Sequence[float],
    repair: Repair,
    count: int,
    questions: Questions,
) -> Iterator[Pruned]:
    """Every network that knows all classes of the task at every share of its parameters.

    zoo: folder of the networks.
    names: of them.
    images: of the task.
    shares: of parameters that stay.
    repair: how what is cut is repaired.
    count: train images among which those for contributions are selected.
    questions: that they answer.
    """
    params, seed = read("contributions", Contributions), read("run", Run).seed
    device = prepare(read("run", Run))
    few = replace(images, train=stratified_sample(images.images, images.train, count, seed))
    for name in names:
        source, card = files.load_as(Card, zoo / name, trust=True)
        if card.classes != images.classes:
            continue
        found, outputs = find(source, card, few, params, (), seed, device), list(range(len(card.classes)))
        for share in shares:
            wanted = Components(tasks={name: Task(model=name, classes="all")}, size=Size(params=share), repair=repair)
            supplier = component.supplier(source, card, found, outputs, few, wanted, params, seed)
            made = component.make(name, supplier, outputs, images, repair, seed, SCRATCH / "pruned")
            network, expected = made.module.cpu(), made.recipe.input
            able = last_layer(network, next(iter(questions.loader(expected)))[0][:1]) is not None
            said = ask(network, expected, questions)
            yield Pruned(f"{name} cut to {share:.0%}", network, made.recipe, said, able)
