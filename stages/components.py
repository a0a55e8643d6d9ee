"""Stage `components`: the component of each task, cut out of its network and repaired (MDA)."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from lib import artifacts, data
from lib import zoo as networks
from lib.mda import classes, components, measure, saved, sizing
from lib.params.base import read
from lib.params.components import Components
from lib.params.contributions import Contributions
from lib.params.run import Run
from lib.params.zoo import Zoo
from lib.progress import track
from stages import prepare, run


def main(dataset: Path, zoo: Path, contributions: Path, out: Path, metrics: Path) -> None:
    """Writes a component a task to `out`; its size, and its accuracy beside its source's, to `metrics`."""
    params, found = read("components", Components), read("contributions", Contributions)
    run_params = read("run", Run)
    classes.check_tasks(params.tasks, found.models)
    artifacts.keep_only(zoo, read("zoo", Zoo).models)
    artifacts.keep_only(contributions, found.models)
    device = prepare(run_params)
    images = data.load(dataset)
    names = images.images.classes
    report = {}
    for name, task in track(list(params.tasks.items()), "components"):
        network, card = networks.load(zoo / task.model)
        network.to(device)
        outputs = classes.outputs(name, task.classes, names, card.classes, task.model)
        numbers = classes.numbers(card.classes, names, task.model)
        loader = partial(_loader, images, card, numbers)
        kept = components.union(artifacts.read_tensors(contributions / task.model / "masks.safetensors"), outputs)
        if params.size is not None:
            selected = artifacts.read_tensors(contributions / task.model / "selected.safetensors")
            batches = {output: loader(selected[card.classes[output]].numpy()) for output in outputs}
            who = f"components.tasks.{name}"
            kept = sizing.at_size(network, card.input.shape, batches, found, params.size, run_params.seed, who)
        component = components.cut(network, kept, card.input.shape)
        own = [numbers[output] for output in outputs]
        how, seed = params.repair, run_params.seed
        repaired = components.repaired(network, component, kept, images, own, card.input, how, seed)
        recipe = components.describe(name, repaired, kept, outputs, network, card, how.method)
        saved.save(out / name, repaired, recipe)
        size = {"params": recipe.cost.params, "macs": recipe.cost.macs, "share": recipe.cost.params / card.cost.params}
        test = loader(data.of_classes(images.images, images.test, numbers))
        report[name] = size | _scores(network, component, repaired, test, outputs)
    artifacts.write_json(metrics, report)


def _loader(images: data.DataSet, card: networks.Card, numbers: Sequence[int], index: np.ndarray) -> data.Loader:
    """Batches of some images as a network expects them; numbers: its classes, by which they are labelled."""
    return data.Loader(images.images, index, card.input.transform(), measure.BATCH_SIZE, numbers)


def _scores(
    network: nn.Module, component: nn.Module, repaired: nn.Module, test: data.Loader, outputs: Sequence[int]
) -> dict[str, Any]:
    """Accuracies of a repaired component beside its source's, and what it had before its repair."""
    whole, labels = measure.logits(network, test)
    before, after = (measure.logits(part, test)[0] for part in (component, repaired))
    unrepaired = measure.component(whole, before, labels, outputs)
    scores = measure.component(whole, after, labels, outputs)
    return {**scores, "unrepaired": {kind: own["component"] for kind, own in unrepaired.items()}}


if __name__ == "__main__":
    run(main)
