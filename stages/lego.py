"""Stage `lego`: components assembled into one classifier, without training or tuned after it (MDA)."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import nn

from lib.base import artifacts, resume
from lib.images import data
from lib.mda import classes
from lib.mda.choice import architect
from lib.mda.choice.evaluation import Evaluation
from lib.mda.choice.whole import best_whole
from lib.mda.lego import comparison, lego, tuning
from lib.network import files
from lib.network.component import Component
from lib.params.base import read
from lib.params.components import Components
from lib.params.entries import entries, entry
from lib.params.lego import Lego
from lib.params.run import Run
from lib.params.zoo import Zoo
from lib.trace.cost import Cost
from lib.zoo.card import Card
from stages import SCRATCH, prepare, run

Modules = dict[str, nn.Module]
Recipes = dict[str, Component]


def main(dataset: Path, zoo: Path, contributions: Path, components: Path, out: Path, metrics: Path) -> None:
    """Writes the assembled network to `out`/network, its accuracy beside its controls' to `metrics`."""
    params, settings, run_params = read("lego", Lego), read("components", Components), read("run", Run)
    models = read("contributions.models", list[str])
    classes.check_tasks(settings.tasks, models)
    artifacts.keep_only(zoo, shelf := read("zoo", Zoo).models)
    artifacts.keep_only(contributions, models)
    artifacts.keep_only(components, settings.tasks)
    device, images, seed = prepare(run_params), data.load(dataset, SCRATCH), run_params.seed
    with resume.scratch(SCRATCH / "lego") as scratch:
        how: dict[str, Any] = {}
        if params.choose is None:
            parts, recipes = _listed(components, params.components or [])
        else:
            classes.check_models(params.choose.models, models)
            evaluation = Evaluation(images, params, params.choose, seed, device)
            opened = {name: _opened(name, zoo, contributions) for name in params.choose.models}
            tried = architect.choose(opened, evaluation, params.choose, settings.repair, seed, scratch)
            parts, recipes = tried[0].parts, tried[0].recipes
            whole = best_whole({name: _loaded(zoo, name) for name in shelf}, evaluation, params.choose.budget)
            how = {**tried[0].to_dict(), "tried": [one.to_dict() for one in tried], "whole": whole and asdict(whole)}
        network, recipe = lego.build(parts, recipes, params.form)
        sources = {part.source.name: _loaded(zoo, part.source.name) for part in recipe.parts.values()}
        measured = comparison.run(network, recipe, sources, images, params, seed, device)
        limits = params.choose.budget.model_dump() if params.choose else None
        network, recipe = lego.scaled(network.cpu(), recipe, measured.scaling, limits)
        found = {"accuracy": measured.accuracy, "scalings": measured.scalings}
        if params.tuning is not None:
            tuning.tune(network.to(device), recipe, images, images.train, params.tuning, seed, scratch)
            found["tuned"] = tuning.accuracy(network, recipe, images)
        files.save(out / "network", network.cpu(), recipe)
        parts_cost = sum((part.cost for part in recipe.parts.values()), Cost())
        how = {"components": list(parts), **how, "form": params.form, "scaling": params.scaling}
        size = {"params": recipe.cost.params, "macs": recipe.cost.macs}
        of_parts = {"parts_params": parts_cost.params, "parts_macs": parts_cost.macs}
        artifacts.write_metrics(metrics, {**how, **size, **of_parts, **found})


def _listed(folder: Path, names: Sequence[str]) -> tuple[Modules, Recipes]:
    """The components that are named, as stage `components` made them."""
    classes.check_chosen(names, sorted(child.name for child in folder.glob("*/")))
    loaded = {name: files.load_as(Component, folder / name, entries()) for name in names}
    return {name: module for name, (module, _) in loaded.items()}, {name: found for name, (_, found) in loaded.items()}


def _loaded(zoo: Path, name: str) -> tuple[nn.Module, Card]:
    """A network of the zoo, by the factory that params.yaml names for it."""
    return files.load_as(Card, zoo / name, entry(name))


def _opened(name: str, zoo: Path, contributions: Path) -> architect.Network:
    """A network that can supply classes."""
    masks = artifacts.read_tensors(contributions / name / "masks.safetensors")
    return architect.Network(*_loaded(zoo, name), masks)


if __name__ == "__main__":
    run(main)
