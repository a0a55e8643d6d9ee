"""Stage `lego`: components assembled into one classifier without training (MDA)."""

from pathlib import Path

from lib import artifacts, data
from lib import zoo as networks
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
    network, recipe = lego.build({n: m for n, (m, _) in loaded.items()}, {n: r for n, (_, r) in loaded.items()})
    sources = {part.source.name: networks.load(zoo / part.source.name) for part in recipe.parts.values()}
    per_class, images = params.scaling_images_per_class, data.load(dataset)
    tried = trial.run(network, recipe, sources, images, per_class, run_params.seed, device)
    if params.scaling == "winning_score":
        network, recipe = lego.scaled(network, recipe, tried.factors)
    saved.save(out / "network", network, recipe)
    parts = sum(part.cost.params for part in recipe.parts.values())
    size = {"params": recipe.cost.params, "macs": recipe.cost.macs, "parts_params": parts}
    chosen = {"components": params.components, "scaling": params.scaling}
    artifacts.write_json(metrics, {**chosen, **size, "accuracy": tried.accuracy})


if __name__ == "__main__":
    run(main)
