"""Table 2: components of two or three networks in one classifier of all ten classes."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from torch import nn

from benchmarks.mda.disassembly import NONE
from benchmarks.mda.lab import Component, Lab, Wanted, Way
from benchmarks.mda.tasks import of_source
from benchmarks.sheet import Result, Sheet, cells
from lib.base import artifacts
from lib.base.resume import key_of
from lib.images import data
from lib.mda import accuracies
from lib.mda.lego import calibration, lego, tuning
from lib.mda.lego.scaling import Scaling
from lib.params.base import read
from lib.params.components import Repair
from lib.params.lego import Lego, Method
from lib.params.training import Training
from lib.training import fit

METHODS: tuple[Method, ...] = get_args(Method)
LABELS = ("unrepaired", "repaired")
SPLITS = ("validation", "test", "train")
TUNED_ON = 5000  # train images


@dataclass(frozen=True)
class Assembly:
    """parts: network -> the classes that it supplies."""

    name: str
    parts: Mapping[str, tuple[int, ...]]


EVEN, ODD = (0, 2, 4, 6, 8), (1, 3, 5, 7, 9)
ASSEMBLIES = (
    Assembly("halves", {"vgg_a": (0, 1, 2, 3, 4), "vgg_b": (5, 6, 7, 8, 9)}),
    Assembly("even + odd", {"vgg_a": EVEN, "vgg_b": ODD}),
    Assembly("3 + 7", {"vgg_a": (0, 1, 2), "vgg_b": (3, 4, 5, 6, 7, 8, 9)}),
    Assembly("two architectures", {"vgg_a": (0, 1, 2, 3, 4), "resnet20": (5, 6, 7, 8, 9)}),
    Assembly("branches and shortcuts", {"googlenet": (0, 1, 2, 3, 4), "bottleneck": (5, 6, 7, 8, 9)}),
    Assembly("three networks", {"vgg_a": (0, 1, 2), "vgg_b": (3, 4, 5), "resnet20": (6, 7, 8, 9)}),
    Assembly("three ResNets", {"resnet20": (0, 1, 2), "resnet32": (3, 4, 5), "resnet56": (6, 7, 8, 9)}),
)
FEW = ("3 + 7", "three networks")  # of a quick run


def wanted(lab: Lab, names: Sequence[str], full: bool = True) -> Iterator[Wanted]:
    """The components of this table."""
    ways = [Way(repair, hard=lab.params.hard) for repair in (NONE, read("components.repair", Repair))]
    for parts in (own.parts for own in _own(names, full)):
        yield from (Wanted(name, classes, way, SPLITS, True) for name, classes in parts.items() for way in ways)


def table(lab: Lab, names: Sequence[str], tune: bool) -> Result:
    """Those whose networks are all among `names`; tune: all of them, and tuned."""
    params = read("lego", Lego)
    how = read("components.repair", Repair)
    rows = [_row(lab, own, how, params, names, tune) for own in _own(names, tune)]
    sheets = (_sheet(rows, params.scaling), _validated(rows), _beside(rows, params.scaling, tune))
    return Result({"scaling": params.scaling, "rows": rows}, sheets)


def _own(names: Sequence[str], full: bool) -> list[Assembly]:
    return [own for own in ASSEMBLIES if set(own.parts) <= set(names) and (full or own.name in FEW)]


def _row(lab: Lab, assembly: Assembly, how: Repair, params: Lego, names: Sequence[str], tune: bool) -> dict[str, Any]:
    found: dict[str, Any] = {"name": assembly.name, "parts": {k: list(v) for k, v in assembly.parts.items()}}
    own = [of_source(lab.source(name), range(10))[0] for name in assembly.parts]
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


def _uncut(lab: Lab, assembly: Assembly, params: Lego) -> float:
    """Test accuracy of the whole sources side by side, each for its classes, scaled likewise."""
    outputs = positions(lab, [lab.names[c] for classes in assembly.parts.values() for c in classes])

    def found(split: str) -> tuple[torch.Tensor, torch.Tensor]:
        logits = [lab.source(name).answers(split)[:, list(classes)] for name, classes in assembly.parts.items()]
        return torch.cat(logits, 1), outputs[lab.labels(split)]

    counts = [len(classes) for classes in assembly.parts.values()]
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


def components_of(lab: Lab, assembly: Assembly, repair: Repair) -> dict[str, Component]:
    """Its parts, repaired in one way."""
    way = Way(repair, hard=lab.params.hard)
    return {name: lab.source(name).component(classes, way) for name, classes in assembly.parts.items()}


def fits(lab: Lab, parts: Mapping[str, Component], ridge: float) -> dict[Method, Scaling]:
    """Every scaling, from train images."""
    return _fits(*answers(lab, parts, "train"), [len(part.recipe.classes) for part in parts.values()], ridge)


def _fits(logits: torch.Tensor, labels: torch.Tensor, counts: Sequence[int], ridge: float) -> dict[Method, Scaling]:
    """counts: outputs of each part."""
    spans = [range(end - count, end) for count, end in zip(counts, accumulate(counts), strict=True)]
    return {method: calibration.fit(method, logits, labels, spans, ridge) for method in METHODS}


def answers(lab: Lab, parts: Mapping[str, Component], split: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of the components side by side, which are those of their assembly, and labels as positions in them."""
    logits = [lab.answers(part.module, part.recipe, split) for part in parts.values()]
    outputs = positions(lab, [name for part in parts.values() for name in part.recipe.classes])
    return torch.cat(logits, 1), outputs[lab.labels(split)]


def positions(lab: Lab, classes: Sequence[str]) -> torch.Tensor:
    """Class -> its output in an assembly whose outputs are `classes`, int64 [classes]."""
    return torch.tensor([classes.index(name) for name in lab.names])


def assembled(parts: Mapping[str, Component], form: lego.Form) -> tuple[nn.Module, lego.Recipe]:
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


def _trained(
    lab: Lab, train: Callable[..., None], network: nn.Module, recipe: lego.Recipe, settings: Training
) -> float:
    index = data.stratified_sample(lab.images.images, lab.images.train, TUNED_ON, lab.seed)
    key = key_of(
        {
            "weights": artifacts.tensor_checksum(network.state_dict()),
            "images": [lab.images.images.checksum, index.tolist()],
            "settings": settings.model_dump(),
            "seed": lab.seed,
            "code": fit.code_digest(),
        }
    )
    file = Path("tuned") / f"{key}.safetensors"
    if not file.exists():
        train(network, recipe, lab.images, index, settings, lab.seed)
        artifacts.write_tensors(file, network.state_dict())
    network.load_state_dict(artifacts.read_tensors(file))
    return accuracies.accuracy(lab.answers(network, recipe, "test"), positions(lab, recipe.classes)[lab.labels("test")])


TUNING = {"epochs": 1, "learning_rate": 1e-4, "label_smoothing": 0.0}


def _fit(
    network: nn.Module, recipe: lego.Recipe, images: data.DataSet, index: np.ndarray, settings: Training, seed: int
) -> None:
    """Everything learns, BatchNorms too."""
    numbers = [images.images.classes.index(name) for name in recipe.classes]
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


def _beside(rows: Sequence[Mapping[str, Any]], scaling: str, tune: bool) -> Sheet:
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
        notes += (
            f" Tuned: one epoch on {TUNED_ON:,} train images, BatchNorms as they are, learning rate "
            f"{TUNING['learning_rate']:g}, chosen on validation images; from scratch: the same network and images, one "
            "epoch at the rate of the zoo."
        )
    return Sheet("2c. Beside their controls: test accuracy, %", columns, lines, notes)


def _written(classes: Sequence[int]) -> str:
    if list(classes) == list(range(classes[0], classes[-1] + 1)):
        return f"{classes[0]}-{classes[-1]}"
    return ",".join(map(str, classes))
