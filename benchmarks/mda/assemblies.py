"""Table 2: components of two or three networks in one classifier of all ten classes."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Any, get_args

import torch
from torch import nn

from benchmarks.mda.disassembly import NONE
from benchmarks.mda.lab import Component, Lab, Wanted, Way
from benchmarks.mda.tasks import of_source
from benchmarks.sheet import Result, Sheet, cells
from lib import artifacts, data, training
from lib.mda import calibration, lego, measure, tuning
from lib.mda.scaling import Scaling
from lib.params.base import read
from lib.params.components import Repair
from lib.params.lego import Lego, Method
from lib.params.training import Training
from lib.resume import key_of

METHODS: tuple[Method, ...] = get_args(Method)
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


def wanted(lab: Lab, names: Sequence[str]) -> Iterator[Wanted]:
    """The components of this table."""
    ways = [Way(repair, hard=lab.params.hard) for repair in (NONE, read("components.repair", Repair))]
    for parts in (own.parts for own in ASSEMBLIES if set(own.parts) <= set(names)):
        yield from (Wanted(name, classes, way, SPLITS, True) for name, classes in parts.items() for way in ways)


def table(lab: Lab, names: Sequence[str], tune: bool) -> Result:
    """Those whose networks are all among `names`."""
    params = read("lego", Lego)
    how = read("components.repair", Repair)
    rows = [_row(lab, own, how, params, tune) for own in ASSEMBLIES if set(own.parts) <= set(names)]
    return Result({"scaling": params.scaling, "rows": rows}, (_sheet(rows, params.scaling, tune), _validated(rows)))


def _row(lab: Lab, assembly: Assembly, how: Repair, params: Lego, tune: bool) -> dict[str, Any]:
    found: dict[str, Any] = {"name": assembly.name, "parts": {k: list(v) for k, v in assembly.parts.items()}}
    whole = [of_source(lab.source(name), range(10))[0] for name in assembly.parts]
    found["mean_source"] = sum(whole) / len(whole)
    for label, repair in (("unrepaired", NONE), ("repaired", how)):
        parts = components_of(lab, assembly, repair)
        scalings = fits(lab, parts, params.scaling_ridge)
        for split in ("validation", "test"):
            logits, labels = answers(lab, parts, split)
            found.setdefault(split, {})[label] = {
                method: measure.accuracy(scaling(logits), labels) for method, scaling in scalings.items()
            }
        if label == "repaired":
            found["params"] = sum(part.recipe.cost.params for part in parts.values())
            found["macs"] = sum(part.recipe.cost.macs for part in parts.values())
            if tune:
                found["tuned"] = _tuned(lab, parts, scalings[params.scaling])
    return found


def components_of(lab: Lab, assembly: Assembly, repair: Repair) -> dict[str, Component]:
    """Its parts, repaired in one way."""
    way = Way(repair, hard=lab.params.hard)
    return {name: lab.source(name).component(classes, way) for name, classes in assembly.parts.items()}


def fits(lab: Lab, parts: Mapping[str, Component], ridge: float) -> dict[Method, Scaling]:
    """Every scaling, from train images."""
    logits, labels = answers(lab, parts, "train")
    ends = list(accumulate(len(part.recipe.classes) for part in parts.values()))
    spans = [range(start, end) for start, end in zip([0, *ends], ends, strict=False)]
    return {method: calibration.fit(method, logits, labels, spans, ridge) for method in METHODS}


def answers(lab: Lab, parts: Mapping[str, Component], split: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of the components side by side, which are those of their assembly, and labels as positions in them."""
    logits = [lab.answers(part.module, part.recipe, split) for part in parts.values()]
    return torch.cat(logits, 1), positions(lab, parts)[lab.labels(split)]


def positions(lab: Lab, parts: Mapping[str, Component]) -> torch.Tensor:
    """Class -> its output in the assembly, int64 [classes]."""
    order = [lab.names.index(name) for part in parts.values() for name in part.recipe.classes]
    return torch.tensor([order.index(c) for c in range(len(lab.names))])


def assembled(parts: Mapping[str, Component], form: lego.Form) -> tuple[nn.Module, lego.Recipe]:
    """The assembly itself."""
    modules = {name: part.module for name, part in parts.items()}
    return lego.build(modules, {name: part.recipe for name, part in parts.items()}, form)


def _tuned(lab: Lab, parts: Mapping[str, Component], scaling: Scaling) -> float:
    """Test accuracy after a short training of everything, from the scaled assembly ("Score 2")."""
    settings = read("zoo.training", Training).model_copy(update=TUNING)
    network, recipe = lego.scaled(*assembled(parts, "parallel"), scaling)
    index = data.stratified_sample(lab.images.images, lab.images.train, TUNED_ON, lab.seed)
    key = key_of(
        {
            "weights": artifacts.tensor_checksum(network.state_dict()),
            "images": [lab.images.images.checksum, index.tolist()],
            "settings": settings.model_dump(),
            "seed": lab.seed,
            "code": training.CODE,
        }
    )
    file = Path("tuned") / f"{key}.safetensors"
    if not file.exists():
        tuning.tune(network, recipe, lab.images, index, settings, lab.seed)
        artifacts.write_tensors(file, network.state_dict())
    network.load_state_dict(artifacts.read_tensors(file))
    logits = lab.answers(network, replace(recipe, scaling=scaling), "test")
    return measure.accuracy(logits, positions(lab, parts)[lab.labels("test")])


TUNING = {"epochs": 1, "learning_rate": 1e-3, "label_smoothing": 0.0}


def gap(row: Mapping[str, Any], scaling: str) -> float:
    """Mean of the sources minus the repaired assembly that was not trained, in points."""
    return row["mean_source"] - row["test"]["repaired"][scaling]


def _sheet(rows: Sequence[Mapping[str, Any]], scaling: str, tune: bool) -> Sheet:
    lines = tuple(
        (
            row["name"],
            " + ".join(f"{name} {_written(classes)}" for name, classes in row["parts"].items()),
            *cells([row["mean_source"]]),
            *cells([row["test"][label][method] for label in ("unrepaired", "repaired") for method in METHODS]),
            *cells([gap(row, scaling)]),
            *(cells([row["tuned"]]) if tune else ()),
            f"{row['params']:,}",
            *cells([row["macs"] / 1e6]),
        )
        for row in rows
    )
    columns = (
        *("assembly", "components", "mean of sources"),
        *(
            method if label == "unrepaired" else f"repaired, {method}"
            for label in ("unrepaired", "repaired")
            for method in METHODS
        ),
        "gap",
        *(("tuned",) if tune else ()),
        *("params", "MMACs"),
    )
    notes = (
        "Without training, but for the last column. none: padding alone; winning_score: the authors' scaling; scalings "
        "are fitted to 50 labelled train images a class. Mean of sources: of their accuracies over all ten classes. "
        f"Gap: to it, of the repaired assembly with {scaling}, in points."
    )
    if tune:
        notes += f" Tuned: from there, one epoch on {TUNED_ON:,} train images."
    return Sheet("2a. Assemblies of all ten classes: test accuracy, %", columns, lines, notes)


def _validated(rows: Sequence[Mapping[str, Any]]) -> Sheet:
    lines = tuple(
        (label, *cells([sum(row["validation"][label][method] for row in rows) / len(rows) for method in METHODS]))
        for label in ("unrepaired", "repaired")
    )
    notes = "By this, the scaling is chosen."
    return Sheet("2b. Mean accuracy on validation images, %", ("components", *METHODS), lines, notes)


def _written(classes: Sequence[int]) -> str:
    if list(classes) == list(range(classes[0], classes[-1] + 1)):
        return f"{classes[0]}-{classes[-1]}"
    return ",".join(map(str, classes))
