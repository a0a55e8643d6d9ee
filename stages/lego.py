"""Stage `lego`: components assembled into one classifier, without training or tuned after it (MDA)."""

from pathlib import Path

from lib import artifacts, data, resume
from lib import zoo as networks
from lib.cost import Cost
from lib.mda import architect, choice, classes, lego, saved, trial, tuning
from lib.mda.components import Recipe
from lib.params.base import read
from lib.params.components import Components
from lib.params.contributions import Contributions
from lib.params.lego import Lego
from lib.params.run import Run
from lib.params.zoo import Zoo
from stages import SCRATCH, prepare, run


def main(dataset: Path, zoo: Path, contributions: Path, components: Path, out: Path, metrics: Path) -> None:
    """Writes the assembled network to `out`/network, its accuracy beside its controls' to `metrics`."""
    params, run_params = read("lego", Lego), read("run", Run)
    models = read("contributions.models", list[str], within=Contributions)
    repair = read("components", Components).repair
    artifacts.keep_only(zoo, read("zoo", Zoo).models)
    artifacts.keep_only(contributions, models)
    device, images = prepare(run_params), data.load(dataset)
    if params.choose is None:
        classes.check_chosen(params.components or [], sorted(child.name for child in components.glob("*/")))
        loaded = {name: saved.load(components / name, Recipe) for name in params.components or []}
        parts, recipes = {n: part for n, (part, _) in loaded.items()}, {n: found for n, (_, found) in loaded.items()}
        predicted = {}
    else:
        classes.check_models(params.choose.models, models)
        found = {
            name: architect.Network(
                *networks.load(zoo / name), artifacts.read_tensors(contributions / name / "masks.safetensors")
            )
            for name in params.choose.models
        }
        chosen = choice.choose(architect.problem(found, images, params.choose, device))
        parts, recipes = architect.build(chosen, found, images, repair, run_params.seed, device)
        predicted = {"predicted_accuracy": chosen.accuracy, "bound": chosen.bound, "tasks": chosen.tasks}
    network, recipe = lego.build(parts, recipes, params.form)
    sources = {part.source.name: networks.load(zoo / part.source.name) for part in recipe.parts.values()}
    tried = trial.run(network, recipe, sources, images, params, run_params.seed, device)
    network, recipe = lego.scaled(network.cpu(), recipe, tried.scaling)
    tuned = {}
    if params.tuning is not None:
        with resume.scratch(SCRATCH / "lego") as scratch:
            network.to(device)
            tuning.tune(network, recipe, images, images.train, params.tuning, run_params.seed, scratch)
        tuned = {"tuned": tuning.accuracy(network, recipe, images)}
    saved.save(out / "network", network.cpu(), recipe)
    parts_cost = sum((part.cost for part in recipe.parts.values()), Cost())
    how = {"components": list(parts), **predicted, "form": params.form, "scaling": params.scaling}
    size = {"params": recipe.cost.params, "macs": recipe.cost.macs}
    of_parts = {"parts_params": parts_cost.params, "parts_macs": parts_cost.macs}
    measured = {"accuracy": tried.accuracy, "scalings": tried.scalings, **tuned}
    artifacts.write_json(metrics, {**how, **size, **of_parts, **measured})


if __name__ == "__main__":
    run(main)
