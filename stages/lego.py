"""Stage `lego`: components assembled into one classifier, without training or tuned after it (MDA)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lib import artifacts, data, resume
from lib import zoo as networks
from lib.cost import Cost
from lib.mda import classes, lego, saved, trial, tuning
from lib.mda.choice import architect
from lib.mda.components import Recipe
from lib.params.base import read
from lib.params.components import Components
from lib.params.contributions import Contributions
from lib.params.lego import Choose, Lego
from lib.params.run import Run
from lib.params.zoo import Zoo
from stages import SCRATCH, prepare, run

Modules = dict[str, nn.Module]
Recipes = dict[str, Recipe]


def main(dataset: Path, zoo: Path, contributions: Path, components: Path, out: Path, metrics: Path) -> None:
    """Writes the assembled network to `out`/network, its accuracy beside its controls' to `metrics`."""
    params, run_params = read("lego", Lego), read("run", Run)
    models = read("contributions.models", list[str], within=Contributions)
    artifacts.keep_only(zoo, read("zoo", Zoo).models)
    artifacts.keep_only(contributions, models)
    device, images = prepare(run_params), data.load(dataset)
    if params.choose is None:
        parts, recipes, predicted = *_listed(components, params.components or []), {}
    else:
        classes.check_models(params.choose.models, models)
        parts, recipes, predicted = _chosen(params, params.choose, zoo, contributions, images, run_params.seed, device)
    network, recipe = lego.build(parts, recipes, params.form)
    sources = {part.source.name: networks.load(zoo / part.source.name) for part in recipe.parts.values()}
    tried = trial.run(network, recipe, sources, images, params, run_params.seed, device)
    network, recipe = lego.scaled(network.cpu(), recipe, tried.scaling)
    tuned = {}
    with resume.scratch(SCRATCH / "lego") as scratch:
        if params.tuning is not None:
            tuning.tune(network.to(device), recipe, images, images.train, params.tuning, run_params.seed, scratch)
            tuned = {"tuned": tuning.accuracy(network, recipe, images)}
        saved.save(out / "network", network.cpu(), recipe)
        parts_cost = sum((part.cost for part in recipe.parts.values()), Cost())
        how = {"components": list(parts), **predicted, "form": params.form, "scaling": params.scaling}
        size = {"params": recipe.cost.params, "macs": recipe.cost.macs}
        of_parts = {"parts_params": parts_cost.params, "parts_macs": parts_cost.macs}
        measured = {"accuracy": tried.accuracy, "scalings": tried.scalings, **tuned}
        artifacts.write_json(metrics, {**how, **size, **of_parts, **measured})


def _listed(folder: Path, names: Sequence[str]) -> tuple[Modules, Recipes]:
    """The components that are named, as stage `components` made them."""
    classes.check_chosen(names, sorted(child.name for child in folder.glob("*/")))
    loaded = {name: saved.load(folder / name, Recipe) for name in names}
    return {name: module for name, (module, _) in loaded.items()}, {name: found for name, (_, found) in loaded.items()}


def _chosen(
    params: Lego, wanted: Choose, zoo: Path, contributions: Path, images: data.DataSet, seed: int, device: torch.device
) -> tuple[Modules, Recipes, dict[str, Any]]:
    """The components that are best within the budget, made here, and what is predicted of them."""
    found = {
        name: architect.Network(
            *networks.load(zoo / name), artifacts.read_tensors(contributions / name / "masks.safetensors")
        )
        for name in wanted.models
    }
    tried = architect.choose(found, images, params, wanted, seed, device)
    repair = read("components", Components).repair
    parts, recipes = architect.build(tried[0].choice, found, images, repair, seed, device)
    return parts, recipes, {**tried[0].to_dict(), "tried": [one.to_dict() for one in tried]}


if __name__ == "__main__":
    run(main)
