"""Stage `components`: the component of one task, cut out of its network and repaired (MDA)."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from lib.base import artifacts
from lib.channels.cutting import cut
from lib.images import data
from lib.mda import accuracies, classes, recount
from lib.mda.components import components, sizing
from lib.network import files
from lib.params.base import read
from lib.params.components import Components, Task
from lib.params.contributions import Contributions
from lib.params.entries import entry
from lib.params.run import Run
from lib.zoo.card import Card
from stages import SCRATCH, prepare, run


def main(dataset: Path, zoo: Path, contributions: Path, task: str, out: Path, metrics: Path) -> None:
    """Writes the component of `task` to `out`; its size, and its accuracy beside its source's, to `metrics`.

    zoo, contributions: the folders with all networks and their masks.
    """
    params, found, run_params = read("components", Components), read("contributions", Contributions), read("run", Run)
    wanted, seed = read(f"components.tasks.{task}", Task), run_params.seed
    classes.check_tasks({task: wanted}, found.models)
    device, masks = prepare(run_params), contributions / wanted.model
    images = data.load(dataset, SCRATCH)
    names = images.classes
    network, card = files.load_as(Card, zoo / wanted.model, entry(wanted.model))
    network.to(device)
    outputs = classes.outputs(task, wanted.classes, names, card.classes, wanted.model)
    numbers = classes.numbers(card.classes, names, wanted.model)
    loader = partial(_loader, images, card, numbers)
    kept = components.union(artifacts.read_tensors(masks / "masks.safetensors"), outputs)
    who = f"components.tasks.{task}"
    if params.size is not None:
        selected = artifacts.read_tensors(masks / "selected.safetensors")
        batches = {output: loader(selected[card.classes[output]].numpy()) for output in outputs}
        kept = sizing.at_size(network, card.input.shape, batches, found, params.size, seed, who)
    component = cut(network, kept, card.input.shape)
    recount.component(who, network, kept, component, card.input.shape)
    own = [numbers[output] for output in outputs]
    repaired = components.repaired(network, component, kept, images, own, card.input, params.repair, seed)
    recipe = components.describe(task, repaired, kept, outputs, network, card, params.repair.method)
    files.save(out, repaired, recipe)
    cost = {"params": recipe.cost.params, "macs": recipe.cost.macs, "share": recipe.cost.params / card.cost.params}
    test = loader(data.of_classes(images.images, images.test, numbers))
    artifacts.write_metrics(metrics, cost | _scores(network, component, repaired, test, outputs))


def _loader(images: data.DataSet, card: Card, numbers: Sequence[int], index: np.ndarray) -> data.Loader:
    """Batches of some images as a network expects them; numbers: its classes, by which they are labelled."""
    return data.Loader(images.images, index, card.input.transform(), accuracies.BATCH_SIZE, numbers)


def _scores(
    network: nn.Module, component: nn.Module, repaired: nn.Module, test: data.Loader, outputs: Sequence[int]
) -> dict[str, Any]:
    """Accuracies of a repaired component beside its source's, and what it had before its repair."""
    whole, labels = accuracies.logits(network, test)
    before, after = (accuracies.logits(part, test)[0] for part in (component, repaired))
    unrepaired = accuracies.component(whole, before, labels, outputs)
    scores = accuracies.component(whole, after, labels, outputs)
    return {**scores, "unrepaired": {kind: own["component"] for kind, own in unrepaired.items()}}


if __name__ == "__main__":
    run(main)
