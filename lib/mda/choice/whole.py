"""The control of a choice: the best whole network within the same budget."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from ...params.lego import Budget
from ...zoo.card import Card
from .evaluation import Evaluation


@dataclass(frozen=True)
class Whole:
    """The control: a whole network, scaled as an assembly is. Accuracies in percent, on validation images that choose,
    on those that predict, and on test images.
    """

    name: str
    params: int
    macs: int
    validation_accuracy: float
    predicted_accuracy: float
    test_accuracy: float


def best_whole(zoo: Mapping[str, tuple[nn.Module, Card]], evaluation: Evaluation, budget: Budget) -> Whole | None:
    """The best of the networks within a budget that know all wanted classes, on images that choose, if there is one."""
    found = {
        name: evaluation.accuracy({name: evaluation.classes}, {name: (module, card)}, "choosing")[0]
        for name, (module, card) in zoo.items()
        if set(evaluation.classes) <= set(card.classes) and card.cost.within(budget.params, budget.macs)
    }
    if not found:
        return None
    best = max(found, key=lambda name: found[name])
    cost = zoo[best][1].cost
    told = evaluation.accuracy({best: evaluation.classes}, {best: zoo[best]}, "predicting", "test")
    return Whole(best, cost.params, cost.macs, found[best], *told)
