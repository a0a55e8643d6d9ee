"""Table 2: which predictor ranks hybrids as the test does."""

from collections.abc import Mapping
from dataclasses import asdict
from math import isfinite
from pathlib import Path
from statistics import mean
from typing import Any

from lib.dery.paths.tables import Columns
from lib.params.base import read
from lib.params.run import Run
from stages import run
from studies.cifar10.bootstrap import tau
from studies.cifar10.group import CHANCE, START, Group, Measured, accuracy
from studies.cifar10.hybrids import WORDS
from studies.sheet import Result, Sheet

TITLES = {
    "stitch_r2": "R² of the stitches (label-free)",
    "cka": "CKA at the stitches (label-free)",
    "few_shot": "accuracy on 500 labelled train images",
    "naswot": "NASWOT",
    "synflow": "SynFlow",
    "similarity": "similarity to the anchors",
    "params": "parameters (more is better)",
    "macs": "MACs (more is better)",
}


def main(cut: Path, untrained: Path, tuned: Path, metrics: Path) -> None:
    """Writes the table to `metrics`. cut: folder of the group; untrained, tuned: of those stages, all items."""
    table(Measured(Group.load(cut), untrained, tuned)).save(metrics)


def predictions(measured: Measured, setting: str) -> dict[str, dict[Columns, float]]:
    """All predictors of the hybrids; those of the network itself look at it as it stands in `setting`."""
    group, own = measured.group, {"few_shot": measured.few(setting), **measured.predicted(setting)}
    found = own | {
        name: {path: float(getattr(group.worth[path], name)) for path in group.hybrids}
        for name in TITLES
        if name not in own
    }
    return {name: found[name] for name in TITLES}


def table(measured: Measured) -> Result:
    """Kendall's tau to test accuracy with bootstrap intervals, in each setting; mean accuracy of the 5 best."""
    group, seed = measured.group, read("run", Run).seed
    settings = [setting for setting in measured.all_settings if setting not in CHANCE]
    figures: dict[str, Any] = {}
    columns, top = {}, {}
    for setting in settings:
        measure = accuracy(measured.right(setting))
        predicted = predictions(measured, START if setting == "frozen" else setting)
        columns[setting] = {
            name: tau([own[p] for p in group.hybrids], [measure[p] for p in group.hybrids], seed)
            for name, own in predicted.items()
        }
        figures[setting] = {name: _finite(asdict(estimate)) for name, estimate in columns[setting].items()}
        points = {name: list(_finite({p: own[p] for p in group.hybrids}).values()) for name, own in predicted.items()}
        figures[setting]["points"] = {**points, "test": [measure[path] for path in group.hybrids]}
        for name, own in predicted.items():
            best = sorted(group.hybrids, key=lambda path, own=own: (-own[path], path))[:5]
            top[setting, name] = mean(measure[path] for path in best)
    taus = Sheet(
        "2a. Kendall's tau of predictors to test accuracy [95 % bootstrap interval over hybrids]",
        ("predictor", *(WORDS[setting] for setting in settings)),
        tuple((TITLES[name], *(str(columns[s][name]) for s in settings)) for name in TITLES),
        "Accuracy on labels, NASWOT and SynFlow look at the network before tuning.",
    )
    means = Sheet(
        "2b. Mean test accuracy of the 5 hybrids that a predictor likes best, %",
        ("predictor", *(WORDS[setting] for setting in settings)),
        tuple((TITLES[name], *(f"{top[s, name]:.1f}" for s in settings)) for name in TITLES),
    )
    return Result(figures, (taus, means))


def _finite(values: Mapping[Any, float]) -> dict[Any, float | None]:
    """For JSON."""
    return {name: value if isfinite(value) else None for name, value in values.items()}


if __name__ == "__main__":
    run(main)
