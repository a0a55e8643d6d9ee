"""Table 5: hybrids of convolutional networks and a vision transformer, without training and after frozen tuning."""

from statistics import mean

import numpy as np

from benchmarks.cifar10.hybrids import CHANCE, CHANCE_IMAGES, WORDS
from benchmarks.cifar10.study import Study, accuracy
from benchmarks.cifar10.tuning import START, tuned
from benchmarks.sheet import Result, Sheet, cells
from lib.dery.paths.problem import Columns

TRANSFORMER = "vit"


def crossings(study: Study) -> dict[str, list[Columns]]:
    """Hybrids of the transformer and one other network with one stitch, behind each of the inner cuts."""
    vit, sets = study.names.index(TRANSFORMER), study.bricks.sets
    others = [m for m in range(len(study.names)) if m != vit]
    return {
        "CNN front, ViT back": [(m,) * k + (vit,) * (sets - k) for m in others for k in range(1, sets)],
        "ViT front, CNN back": [(vit,) * k + (m,) * (sets - k) for m in others for k in range(1, sets)],
    }


def table(study: Study, tune: bool) -> Result:
    """Every crossing in every setting, and the sources."""
    groups = crossings(study)
    paths = [path for group in groups.values() for path in group]
    columns: dict[str, dict[Columns, np.ndarray]] = {}
    for setting in study.settings:
        judge = study.some_test(CHANCE_IMAGES) if setting in CHANCE else study.on_test
        columns[setting] = study.right(setting, paths, judge)
    columns["recalibrated"] |= study.right("recalibrated", study.sources, study.on_test)
    if tune:
        columns["frozen"] = tuned(study, study.networks(START, [*study.sources, *paths]), ["frozen"])
    measure = {setting: accuracy(right) for setting, right in columns.items()}
    rows, figures = [], {}
    for title, group in groups.items():
        for path in group:
            rows.append(_row(study, study.title(path), path, [own.get(path) for own in measure.values()]))
        means = {setting: mean(own[path] for path in group) for setting, own in measure.items()}
        best = {setting: max(own[path] for path in group) for setting, own in measure.items()}
        rows.append((f"{title}: mean", "", "", *cells(list(means.values()))))
        rows.append((f"{title}: best", "", "", *cells(list(best.values()))))
        figures[title] = {"mean": means, "best": best}
    for path in study.sources:
        rows.append(_row(study, study.title(path), path, [own.get(path) for own in measure.values()]))
    figures["sources"] = {study.title(path): measure["recalibrated"][path] for path in study.sources}
    columns_ = ("blocks from", "params", "MMACs", *(WORDS[setting] for setting in measure))
    notes = "Where a block has no BatchNorm, recalibration matches mean and variance of the stitch to its target's."
    return Result(figures, (Sheet("5. CNN and ViT: test accuracy, %", columns_, tuple(rows), notes),))


def _row(study: Study, title: str, path: Columns, values: list[float | None]) -> tuple[str, ...]:
    params, macs = (study.problem.cost(path, kind) for kind in ("params", "macs"))
    return (title, f"{params:,.0f}", f"{macs / 1e6:.1f}", *cells(values))
