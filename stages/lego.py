"""Stage `lego`: components assembled into one classifier without training (MDA)."""

from pathlib import Path
from typing import get_args

import numpy as np
import torch
from torch import nn

from lib import artifacts, data
from lib import zoo as networks
from lib.cost import Cost
from lib.mda import calibration, classes, lego, measure, saved
from lib.mda.components import Recipe
from lib.params.base import read
from lib.params.lego import Lego, Method
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
    parts = {name: part for name, (part, _) in loaded.items()}
    network, recipe = lego.build(parts, {name: found for name, (_, found) in loaded.items()}, params.form)
    images = data.load(dataset)
    numbers = classes.numbers(recipe.classes, images.images.classes, "lego.components")
    test, validation = (data.of_classes(images.images, part, numbers) for part in (images.test, images.validation))
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

    logits, labels = answers(network, recipe.input, train)
    fits = {
        method: calibration.fit(method, logits, labels, recipe.spans, params.scaling_ridge)
        for method in get_args(Method)
    }
    of_sources = calibration.fit(params.scaling, side_by_side(train), labels, recipe.spans, params.scaling_ridge)
    compared = {}
    for name, part in (("validation", validation), ("test", test)):
        logits, labels = answers(network, recipe.input, part)
        compared[name] = {method: measure.accuracy(by(logits), labels) for method, by in fits.items()}
    report = measure.assembly(logits, side_by_side(test), labels, recipe.spans, fits[params.scaling], of_sources)
    network, recipe = lego.scaled(network, recipe, fits[params.scaling])
    saved.save(out / "network", network, recipe)
    parts_cost = sum((part.cost for part in recipe.parts.values()), Cost())
    artifacts.write_json(
        metrics,
        {
            "components": params.components,
            "form": params.form,
            "scaling": params.scaling,
            "params": recipe.cost.params,
            "macs": recipe.cost.macs,
            "parts_params": parts_cost.params,
            "parts_macs": parts_cost.macs,
            "accuracy": report,
            "scalings": compared,
        },
    )


if __name__ == "__main__":
    run(main)
