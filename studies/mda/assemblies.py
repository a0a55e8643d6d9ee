"""Table 2: components of two or three networks in one classifier of all ten classes."""

from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from torch import nn

from lib.base import artifacts
from lib.images import data
from lib.mda import accuracies, tuning
from lib.mda.lego import calibration, lego
from lib.network.assembled import Assembled, Form
from lib.network.scaling import Scaling
from lib.params.base import read
from lib.params.components import Repair
from lib.params.lego import Lego, Method
from lib.params.run import Run
from lib.params.training import Training
from lib.training import fit
from stages import prepare, run
from studies.mda.disassembly import NONE
from studies.mda.lab import Component, Lab, Way
from studies.mda.params import Study
from studies.mda.tasks import of_source
from studies.sheet import Result, Sheet, cells

METHODS: tuple[Method, ...] = get_args(Method)
LABELS = ("unrepaired", "repaired")


Parts = Mapping[str, Sequence[int]]  # network -> the classes that it supplies


def main(assembly: str, dataset: Path, zoo: Path, sources: Path, metrics: Path) -> None:
    """Writes accuracies of an assembly of study.assemblies, and of its controls, to `metrics`."""
    prepare(read("run", Run))
    lab = Lab(dataset, zoo, sources)
    artifacts.write_metrics(metrics, found(lab, assembly, lab.params.models))


def found(lab: Lab, name: str, names: Sequence[str], tune: bool = True) -> dict[str, Any]:
    """The assembly `name`, without training and, with `tune`, tuned; names: of networks that it is compared with."""
    assembly, params, how = lab.study.assemblies[name], read("lego", Lego), read("components.repair", Repair)
    found: dict[str, Any] = {"name": name.replace("_", " "), "parts": {k: list(v) for k, v in assembly.items()}}
    own = [of_source(lab.source(name), range(10))[0] for name in assembly]
    found["mean_source"] = sum(own) / len(own)
    for label, repair in zip(LABELS, (NONE, how), strict=True):
        parts = components_of(lab, assembly, repair)
        scalings = fits(lab, parts, params.scaling_ridge)
        for split in ("validation", "test"):
            logits, labels = answers(lab, parts, split)
            found.setdefault(split, {})[label] = {
                method: accuracies.accuracy(scaling(logits), labels) for method, scaling in scalings.items()
            }
        if label == "repaired":
            found["params"] = sum(part.recipe.cost.params for part in parts.values())
            found["macs"] = sum(part.recipe.cost.macs for part in parts.values())
            found["uncut"] = _uncut(lab, assembly, params)
            found["uncut_params"] = sum(lab.source(name).card.cost.params for name in parts)
            found["whole"] = whole(lab, names, found["params"])
            if tune:
                found |= _tuned(lab, parts, scalings[params.scaling])
    return found


def result(found: Mapping[str, Any]) -> Result:
    """A row an assembly; found: by its name."""
    rows, scaling = list(found.values()), read("lego", Lego).scaling
    sheets = (_sheet(rows, scaling), _validated(rows), _beside(rows, scaling))
    return Result({"scaling": scaling, "rows": rows}, sheets)


def _uncut(lab: Lab, assembly: Parts, params: Lego) -> float:
    """Test accuracy of the whole sources side by side, each for its classes, scaled likewise."""
    outputs = positions(lab, [lab.names[c] for classes in assembly.values() for c in classes])

    def found(split: str) -> tuple[torch.Tensor, torch.Tensor]:
        logits = [lab.source(name).answers(split)[:, list(classes)] for name, classes in assembly.items()]
        return torch.cat(logits, 1), outputs[lab.labels(split)]

    counts = [len(classes) for classes in assembly.values()]
    scaling = _fits(*found("train"), counts, params.scaling_ridge)[params.scaling]
    logits, labels = found("test")
    return accuracies.accuracy(scaling(logits), labels)


def whole(lab: Lab, names: Sequence[str], limit: float) -> list[Any] | None:
    """Of the networks within `limit` parameters the best one on validation images: its name and test accuracy."""
    within = [name for name in names if lab.source(name).card.cost.params <= limit]
    if not within:
        return None
    best = max(within, key=lambda name: of_source(lab.source(name), range(10), "validation")[0])
    return [best, of_source(lab.source(best), range(10))[0]]


def components_of(lab: Lab, assembly: Parts, repair: Repair) -> dict[str, Component]:
    """Its parts, repaired in one way."""
    way = Way(repair, hard=lab.params.hard)
    return {name: lab.source(name).component(classes, way) for name, classes in assembly.items()}


def fits(lab: Lab, parts: Mapping[str, Component], ridge: float) -> dict[Method, Scaling]:
    """Every scaling, from train images."""
    return _fits(*answers(lab, parts, "train"), [len(part.recipe.classes) for part in parts.values()], ridge)


def _fits(logits: torch.Tensor, labels: torch.Tensor, counts: Sequence[int], ridge: float) -> dict[Method, Scaling]:
    """counts: outputs of each part."""
    spans = [range(end - count, end) for count, end in zip(counts, accumulate(counts), strict=True)]
    return {method: calibration.fit(method, logits, labels, spans, ridge) for method in METHODS}


def answers(lab: Lab, parts: Mapping[str, Component], split: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of the components side by side, which are those of their assembly, and labels as positions in them."""
    logits = [lab.answers(part.module, part.recipe.input, split) for part in parts.values()]
    outputs = positions(lab, [name for part in parts.values() for name in part.recipe.classes])
    return torch.cat(logits, 1), outputs[lab.labels(split)]


def positions(lab: Lab, classes: Sequence[str]) -> torch.Tensor:
    """Class -> its output in an assembly whose outputs are `classes`, int64 [classes]."""
    return torch.tensor([classes.index(name) for name in lab.names])


def assembled(parts: Mapping[str, Component], form: Form) -> tuple[nn.Module, Assembled]:
    """The assembly itself."""
    modules = {name: part.module for name, part in parts.items()}
    return lego.build(modules, {name: part.recipe for name, part in parts.items()}, form)


def _tuned(lab: Lab, parts: Mapping[str, Component], scaling: Scaling) -> dict[str, float]:
    """Test accuracies after a short training on the same images: of everything, from the scaled assembly ("Score 2"),
    and of the same network from random weights.
    """
    network, recipe = assembled(parts, "parallel")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(lab.seed)
        untrained = recipe.build(trust=True)
    settings = read("zoo.training", Training).model_copy(update={"epochs": TUNING["epochs"]})
    return {
        "tuned": _trained(lab, tuning.tune, *lego.scaled(network, recipe, scaling), settings.model_copy(update=TUNING)),
        "scratch": _trained(lab, _fit, untrained, recipe, settings),
    }


def _trained(lab: Lab, train: Callable[..., None], network: nn.Module, recipe: Assembled, settings: Training) -> float:
    index = data.stratified_sample(lab.images.images, lab.images.train, lab.study.tuning_images, lab.seed)
    train(network, recipe, lab.images, index, settings, lab.seed)
    logits = lab.answers(network, recipe.input, "test")
    return accuracies.accuracy(logits, positions(lab, recipe.classes)[lab.labels("test")])


TUNING = {"epochs": 1, "learning_rate": 1e-4, "label_smoothing": 0.0}


def _fit(
    network: nn.Module, recipe: Assembled, images: data.DataSet, index: np.ndarray, settings: Training, seed: int
) -> None:
    """Everything learns, BatchNorms too."""
    numbers = [images.classes.index(name) for name in recipe.classes]
    loader = data.Loader(images.images, index, recipe.input.transform(), settings.batch_size, numbers)
    fit.fit(network, loader, settings, seed, what="from scratch")


def gap(row: Mapping[str, Any], scaling: str) -> float:
    """Mean of the sources minus the repaired assembly that was not trained, in points."""
    return row["mean_source"] - row["test"]["repaired"][scaling]


def _sheet(rows: Sequence[Mapping[str, Any]], scaling: str) -> Sheet:
    lines = tuple(
        (
            row["name"],
            " + ".join(f"{name} {_written(classes)}" for name, classes in row["parts"].items()),
            *cells([row["mean_source"]]),
            *cells([row["test"][label][method] for label in LABELS for method in METHODS]),
            *cells([gap(row, scaling)]),
        )
        for row in rows
    )
    columns = (
        *("assembly", "components", "mean of sources"),
        *(method if label == "unrepaired" else f"repaired, {method}" for label in LABELS for method in METHODS),
        "gap",
    )
    notes = (
        "Without training. none: padding alone; winning_score: the authors' scaling; scalings are fitted to 50 "
        "labelled train images a class. Mean of sources: of their accuracies over all ten classes. "
        f"Gap: to it, of the repaired assembly with {scaling}, in points."
    )
    return Sheet("2a. Assemblies of all ten classes: test accuracy, %", columns, lines, notes)


def _validated(rows: Sequence[Mapping[str, Any]]) -> Sheet:
    lines = tuple(
        (label, *cells([sum(row["validation"][label][method] for row in rows) / len(rows) for method in METHODS]))
        for label in LABELS
    )
    both = {method: sum(row["validation"][label][method] for row in rows for label in LABELS) for method in METHODS}
    notes = f"The scaling that is best over both rows is chosen: {max(both, key=lambda method: both[method])}."
    return Sheet("2b. Mean accuracy on validation images, %", ("components", *METHODS), lines, notes)


def _beside(rows: Sequence[Mapping[str, Any]], scaling: str) -> Sheet:
    tune = "tuned" in rows[0]
    lines = tuple(
        (
            row["name"],
            *(f"{row['params']:,}", *cells([row["macs"] / 1e6, row["test"]["repaired"][scaling]])),
            *(f"{row['uncut_params']:,}", *cells([row["uncut"]])),
            *(("", "") if row["whole"] is None else (row["whole"][0], *cells([row["whole"][1]]))),
            *(cells([row["tuned"], row["scratch"]]) if tune else ()),
        )
        for row in rows
    )
    columns = (
        *("assembly", "params", "MMACs", "untrained"),
        *("params of the sources", "sources, uncut"),
        *("best whole network", "its accuracy"),
        *(("tuned", "from scratch") if tune else ()),
    )
    notes = (
        f"Untrained: the repaired assembly with {scaling}. Sources, uncut: whole, side by side, each for its own "
        "classes, scaled likewise. Best whole network: on validation images, of those with at most the assembly's "
        "parameters; they have seen all ten classes."
    )
    if tune:
        images = read("study", Study).tuning_images
        notes += (
            f" Tuned: one epoch on {images:,} train images, BatchNorms as they are, learning rate "
            f"{TUNING['learning_rate']:g}, chosen on validation images; from scratch: the same network and images, one "
            "epoch at the rate of the zoo."
        )
    return Sheet("2c. Beside their controls: test accuracy, %", columns, lines, notes)


def _written(classes: Sequence[int]) -> str:
    if list(classes) == list(range(classes[0], classes[-1] + 1)):
        return f"{classes[0]}-{classes[-1]}"
    return ",".join(map(str, classes))


if __name__ == "__main__":
    run(main)
