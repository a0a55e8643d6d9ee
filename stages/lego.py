"""Stage `lego`: components assembled into one classifier, without training or tuned after it (MDA)."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from lib.base import artifacts, resume
from lib.images import data
from lib.mda import classes, tuning
from lib.mda.choice import architect
from lib.mda.choice.evaluation import Evaluation
from lib.mda.choice.whole import best_whole
from lib.mda.contributions.found import Found
from lib.mda.lego import comparison, lego
from lib.network import files
from lib.network.component import Component
from lib.params.base import read
from lib.params.components import Components
from lib.params.contributions import Contributions
from lib.params.entries import entries, entry
from lib.params.lego import Lego
from lib.params.run import Run
from lib.params.training import Tuning
from lib.params.zoo import Zoo
from lib.zoo.card import Card, read_cards
from lib.zoo.teachers import Networks, named
from stages import SCRATCH, prepare, run

Parts = tuple[dict[str, nn.Module], dict[str, Component]]  # components and their recipes, by name


def main(dataset: Path, zoo: Path, contributions: Path, components: Path, out: Path, metrics: Path) -> None:
    """Writes the assembled network to `out`/network, its accuracy beside its controls' to `metrics`."""
    params, settings, run_params = read("lego", Lego), read("components", Components), read("run", Run)
    thresholds, wanted = read("contributions", Contributions), params.choose
    classes.check_tasks(settings.tasks, thresholds.models)
    artifacts.keep_only(zoo, shelf := read("zoo", Zoo).models)
    artifacts.keep_only(contributions, thresholds.models)
    artifacts.keep_only(components, settings.tasks)
    device, images, seed = prepare(run_params), data.load(dataset, SCRATCH), run_params.seed
    with resume.scratch(SCRATCH / "lego") as scratch:
        chosen = whole = None
        if wanted is None:
            parts, recipes = _listed(components, params.components or [])
            taught = _teachers(zoo, shelf, params.tuning, [name for own in recipes.values() for name in own.classes])
        else:
            classes.check_models(wanted.models, thresholds.models)
            evaluation = Evaluation(images, params, wanted, seed, device)
            opened = {name: (*_loaded(zoo, name), Found.load(contributions / name)) for name in wanted.models}
            suppliers = architect.suppliers(opened, evaluation, settings, thresholds, seed)
            whole = best_whole({name: _loaded(zoo, name) for name in shelf}, evaluation, wanted.budget)
            taught = _teachers(zoo, shelf, params.tuning, evaluation.classes, whole.name if whole else None)
            chosen = architect.choose(suppliers, evaluation, wanted, settings.repair, seed, scratch)
            parts, recipes = chosen.tried[0].parts, chosen.tried[0].recipes
        network, recipe = lego.build(parts, recipes, params.form)
        sources = {part.source.name: _loaded(zoo, part.source.name) for part in recipe.parts.values()}
        measured = comparison.run(network, recipe, sources, images, params, seed, device)
        limits = wanted.budget.model_dump() if wanted else None
        network, recipe = lego.scaled(network, recipe, measured.scaling, limits)
        told = {"accuracy": measured.accuracy, "scalings": measured.scalings}
        if params.tuning is not None:
            tuning.tune(network.to(device), recipe, images, images.train, params.tuning, seed, scratch, taught)
            told["tuned"] = tuning.accuracy(network, recipe, images)
        files.save(out / "network", network.cpu(), recipe)
        how = chosen.told(whole, measured.scalings["test"][params.scaling]) if chosen else dict[str, Any]()
        how = {"components": list(parts), **how, "form": params.form, "scaling": params.scaling}
        artifacts.write_metrics(metrics, {**how, **comparison.sizes(recipe), **told})


def _listed(folder: Path, names: Sequence[str]) -> Parts:
    """The components that are named, as stage `components` made them."""
    classes.check_chosen(names, sorted(child.name for child in folder.glob("*/")))
    loaded = {name: files.load_as(Component, folder / name, entries()) for name in names}
    return {name: module for name, (module, _) in loaded.items()}, {name: found for name, (_, found) in loaded.items()}


def _teachers(
    zoo: Path, shelf: Iterable[str], settings: Tuning | None, task: Sequence[str], best: str | None = None
) -> Networks:
    """Those of the tuning, for the classes `task`; best: the best network within the budget."""
    if settings is None or settings.distillation == 0:
        return []
    key, known = "lego.tuning.teacher", {name: card.classes for name, card in read_cards(zoo, list(shelf)).items()}
    return [_loaded(zoo, name) for name in named(key, settings.teacher, known, task, best)]


def _loaded(zoo: Path, name: str) -> tuple[nn.Module, Card]:
    """A network of the zoo, by the factory that params.yaml names for it."""
    return files.load_as(Card, zoo / name, entry(name))


if __name__ == "__main__":
    run(main)
