"""Stage `lego`: components assembled into one classifier without training (MDA)."""

from pathlib import Path

from lib import artifacts, data
from lib import zoo as networks
from lib.cost import Cost
from lib.mda import classes, lego, saved, trial
from lib.mda.components import Recipe
from lib.params.base import read
from lib.params.lego import Lego
from lib.params.run import Run
from lib.params.zoo import Zoo
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
    sources = {part.source.name: networks.load(zoo / part.source.name) for part in recipe.parts.values()}
    tried = trial.run(network, recipe, sources, data.load(dataset), params, run_params.seed, device)
    network, recipe = lego.scaled(network.cpu(), recipe, tried.scaling)
    saved.save(out / "network", network, recipe)
    parts_cost = sum((part.cost for part in recipe.parts.values()), Cost())
    chosen = {"components": params.components, "form": params.form, "scaling": params.scaling}
    size = {"params": recipe.cost.params, "macs": recipe.cost.macs}
    of_parts = {"parts_params": parts_cost.params, "parts_macs": parts_cost.macs}
    measured = {"accuracy": tried.accuracy, "scalings": tried.scalings}
    artifacts.write_json(metrics, {**chosen, **size, **of_parts, **measured})


if __name__ == "__main__":
    run(main)
