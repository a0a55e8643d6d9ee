"""Stage `untrained`: the networks of a group put together in one setting of the stitches, and asked."""

from math import isfinite
from pathlib import Path

import numpy as np

from lib.base import artifacts
from lib.dery.assembly.built import NASWOT_BATCHES, NASWOT_IMAGES
from lib.dery.assembly.proxies.naswot import naswot
from lib.dery.assembly.proxies.synflow import synflow
from lib.dery.assembly.reassembly import Made
from lib.dery.paths.tables import Columns
from lib.images import data
from lib.images.data import DataSet, Loader
from lib.network import files
from lib.params.assembly import Assembly
from lib.params.base import read
from lib.params.edges import Edges
from lib.params.run import Run
from stages import SCRATCH, prepare, run
from studies.cifar10.group import CHANCE, SETTINGS, START, Group, key, write_right
from studies.cifar10.params import Study
from studies.cifar10.target import HALVES, task
from studies.cifar10.tree import judged, opened, reassembled

PREDICTED = "resnets"  # the group of which predictors are compared


def main(item: str, dataset: Path, zoo: Path, cut: Path, out: Path) -> None:
    """Writes whether each network is right on each image, what predictors say of it, and, of the setting with which
    tuning begins, the networks.

    item: group and setting, as in resnets-layers.
    cut: folder of the group.
    """
    name, setting = item.split("-")
    params, seed = read("assembly", Assembly), read("run", Run).seed
    prepare(read("run", Run))
    images, group = task(name, data.load(dataset, SCRATCH)), Group.load(cut)
    how, study = SETTINGS[setting], read("study", Study)
    bricks = opened(zoo, group.names, group.cuts, images, how.joining(read("edges", Edges)), params, seed)
    made = reassembled(bricks, [*group.measured, *group.sources], how.treatment)
    test = images.test
    if setting in CHANCE:
        test = data.stratified_sample(images.images, test, study.chance_images, seed)
    few = data.stratified_sample(images.images, unseen(name, images, params, seed), study.rank_images, seed)
    write_right(out, {kind: judged(bricks, made, images, own) for kind, own in {"test": test, "few": few}.items()})
    if name == PREDICTED and setting not in CHANCE:
        hybrids = {path: made[path] for path in group.hybrids}
        artifacts.write_json(out / "predicted.json", {"naswot": switches(hybrids, images), "synflow": flows(hybrids)})
    if setting == START:
        for path, own in made.items():
            files.save(out / "networks" / key(path), *own)


def unseen(group: str, images: DataSet, params: Assembly, seed: int) -> np.ndarray:
    """The train images whose labels have fitted no head: where no network knows the task, heads are fitted to some."""
    if group != HALVES:
        return images.train
    fitted = data.stratified_sample(images.images, images.train, params.head_images, seed)
    return np.setdiff1d(images.train, fitted)


def switches(networks: dict[Columns, Made], images: DataSet) -> dict[str, float | None]:
    """NASWOT on 5 batches of 32 unlabelled train images."""
    found, loaders = dict[str, float | None](), {}
    probe = images.probe[: NASWOT_BATCHES * NASWOT_IMAGES]
    for path, (own, recipe) in networks.items():
        if recipe.input not in loaders:
            loaders[recipe.input] = Loader(images.images, probe, recipe.input.transform(), NASWOT_IMAGES)
        found[key(path)] = finite(naswot(own, (x for x, _ in loaders[recipe.input])))
    return found


def flows(networks: dict[Columns, Made]) -> dict[str, float | None]:
    """SynFlow."""
    return {key(path): finite(synflow(own, recipe.input.shape)) for path, (own, recipe) in networks.items()}


def finite(value: float | None) -> float | None:
    """For JSON."""
    return value if value is not None and isfinite(value) else None


if __name__ == "__main__":
    run(main)
