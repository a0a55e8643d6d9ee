"""Stage `lego`: components assembled into one classifier without training (MDA)."""

from pathlib import Path

import numpy as np
import torch
from torch import nn

from lib import artifacts, data
from lib import zoo as networks
from lib.mda import classes, lego, measure, saved, scaling
from lib.mda.components import Recipe
from lib.params.base import read
from lib.params.lego import Lego
from lib.params.run import Run
from lib.params.zoo import Zoo
from lib.zoo import Input
from stages import prepare, run


def main(dataset: Path, zoo: Path, components: Path, out: Path, metrics: Path) -> None:
    """Writes the assembled network to `out`/network, its accuracy beside its controls' to `metrics`."""
    params, run_params = read("lego", Lego), read("run", Run)
    classes.check_chosen(params.components, sorted(child.name for child in components.glob("*/")))
    artifacts.keep_only(zoo, read("zoo", Zoo).models)
    device = prepare(run_params)
    loaded = {name: saved.load(components / name, Recipe) for name in params.components}
    network, recipe = lego.build({n: m for n, (m, _) in loaded.items()}, {n: r for n, (_, r) in loaded.items()})
    images = data.load(dataset)
    numbers = classes.numbers(recipe.classes, images.images.classes, "lego.components")
    test = data.of_classes(images.images, images.test, numbers)
    train = data.stratified_sample(
        images.images,
        data.of_classes(images.images, images.train, numbers),
        params.scaling_images_per_class * len(numbers),
        run_params.seed,
    )

    def answers(model: nn.Module, expected: Input, index: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        loader = data.Loader(images.images, index, expected.transform(), measure.BATCH_SIZE, numbers)
        return measure.logits(model.to(device), loader)

    sources = {part.source.name: networks.load(zoo / part.source.name) for part in recipe.parts.values()}

    def side_by_side(index: np.ndarray) -> torch.Tensor:
        whole = {name: answers(model, card.input, index)[0] for name, (model, card) in sources.items()}
        return lego.side_by_side(recipe, whole, {name: card.classes for name, (_, card) in sources.items()})

    train_logits, train_labels = answers(network, recipe.input, train)
    test_logits, test_labels = answers(network, recipe.input, test)
    factors = scaling.all_factors(train_logits, train_labels, recipe.spans)
    source_factors = scaling.all_factors(side_by_side(train), train_labels, recipe.spans)
    report = measure.assembly(test_logits, side_by_side(test), test_labels, recipe.spans, factors, source_factors)
    if params.scaling == "winning_score":
        network, recipe = lego.scaled(network, recipe, factors)
    saved.save(out / "network", network, recipe)
    parts = sum(part.cost.params for part in recipe.parts.values())
    size = {"params": recipe.cost.params, "macs": recipe.cost.macs, "parts_params": parts}
    chosen = {"components": params.components, "scaling": params.scaling}
    artifacts.write_json(metrics, {**chosen, **size, "accuracy": report})


if __name__ == "__main__":
    run(main)
