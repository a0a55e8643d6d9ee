"""The rival of one's own shelf made smaller: whole networks cut by MDA for all their classes, and repaired."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from lib.dery.paths.tables import Kind
from lib.images.data import DataSet, Loader
from lib.mda import accuracies
from lib.mda.components import component
from lib.mda.contributions.found import Found
from lib.network import files
from lib.params.components import Components, Size, Task
from lib.params.contributions import Contributions
from lib.zoo.card import Card
from studies.frontier.field import Entrant


def pruned(
    zoo: Path, contributions: Path, images: DataSet, shares: Sequence[float], params: Contributions, seed: int
) -> list[Entrant]:
    """Every network of params.models at every share of its parameters, asked on validation and test images.

    zoo, contributions: the folders of those stages.
    """
    found = []
    for name in params.models:
        network, card = files.load_as(Card, zoo / name, trust=True)
        outputs = list(range(len(card.classes)))
        for share in shares:
            wanted = Components(tasks={name: Task(model=name, classes="all")}, size=Size(params=share))
            masks = Found.load(contributions / name)
            source = component.supplier(network, card, masks, outputs, images, wanted, params, seed)
            made = component.make(name, source, outputs, images, wanted.repair, seed)
            right = {
                part: _right(made.module, card, images, index)
                for part, index in (("validation", images.validation), ("test", images.test))
            }
            cost: dict[Kind, float] = {"params": made.recipe.cost.params, "macs": made.recipe.cost.macs}
            accuracy = 100 * float(right["validation"].mean())
            found.append(Entrant(f"{name} cut to {share:.0%}", cost, accuracy, right["test"]))
    return found


@torch.inference_mode()
def _right(network: torch.nn.Module, card: Card, images: DataSet, index: np.ndarray) -> np.ndarray:
    loader = Loader(images.images, index, card.input.transform(), accuracies.BATCH_SIZE)
    said, labels = accuracies.logits(network, loader)
    return (said.argmax(1) == labels).numpy()
