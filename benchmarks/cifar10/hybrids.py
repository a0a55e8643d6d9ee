"""Table 1: every hybrid of the ResNet partition in every setting, beside its sources."""

from statistics import mean
from typing import Any

import numpy as np

from benchmarks.cifar10.study import Study, accuracy
from benchmarks.cifar10.tuning import START, tuned
from benchmarks.sheet import Result, Sheet, cells
from lib.dery.paths.problem import Columns

CHANCE = ("identity", "random")  # settings that need no precision
CHANCE_IMAGES = 2_000  # test images for those
WORDS = {
    "identity": "identity",
    "random": "random",
    "least_squares": "least squares",
    "recalibrated": "+ recalibration",
    "head": "+ refitted head",
    "layers": "+ refitted layers",
    "frozen": "+ refitted layers, one epoch frozen",
}


def measured(study: Study, tune: bool) -> dict[str, dict[Columns, np.ndarray]]:
    """Of every setting whether each hybrid is right on each test image; of recalibrated and frozen the sources, too,
    which nothing but tuning changes.
    """
    found = {}
    for setting in study.settings:
        judge = study.some_test(CHANCE_IMAGES) if setting in CHANCE else study.on_test
        found[setting] = study.right(setting, study.hybrids, judge)
    found["recalibrated"] |= study.right("recalibrated", study.sources, study.on_test)
    if tune:
        found["frozen"] = tuned(study, study.networks(START, study.sources + study.hybrids), ["frozen"])
    return found


def table(study: Study, tune: bool) -> Result:
    """Mean, least and best by setting; all hybrids."""
    right = measured(study, tune)
    by_setting = {setting: accuracy(own) for setting, own in right.items()}
    figures: dict[str, Any] = {}
    rows = []
    for setting, own in by_setting.items():
        values = [own[path] for path in study.hybrids]
        figures[setting] = {"mean": mean(values), "min": min(values), "max": max(values)}
        sources = [own.get(path) for path in study.sources]
        images = str(len(next(iter(right[setting].values()))))
        rows.append((WORDS[setting], images, *cells([mean(values), min(values), max(values)]), *cells(sources)))
    summary = Sheet(
        f"1a. The {len(study.hybrids)} hybrids: test accuracy, %",
        ("setting", "test images", "mean", "min", "max", *study.names),
        tuple(rows),
        "Beside: the sources' own accuracy, untrained and after the same frozen epoch, in which their head learns.",
    )
    paths = sorted(study.hybrids, key=lambda path: -by_setting["recalibrated"][path])
    every = Sheet(
        "1b. Every hybrid, best first",
        ("blocks from", "params", "MMACs", *(WORDS[setting] for setting in by_setting)),
        tuple(
            (
                study.title(path),
                f"{study.problem.cost(path, 'params'):,.0f}",
                f"{study.problem.cost(path, 'macs') / 1e6:.1f}",
                *cells([own.get(path) for own in by_setting.values()]),
            )
            for path in [*paths, *study.sources]
        ),
    )
    figures["sources"] = {study.title(p): by_setting["recalibrated"][p] for p in study.sources}
    figures["networks"] = [
        {"blocks": study.title(path), "hybrid": path in study.hybrids, "params": study.problem.cost(path, "params")}
        | {setting: own.get(path) for setting, own in by_setting.items()}
        for path in [*study.sources, *paths]
    ]
    figures["cuts"] = {name: list(own) for name, own in zip(study.names, study.bricks.cuts, strict=True)}
    return Result(figures, (summary, every))
