"""Table 5: hybrids of convolutional networks and a vision transformer, without training and after frozen tuning."""

from collections.abc import Sequence
from pathlib import Path
from statistics import mean

from lib.dery.paths.tables import Columns
from stages import run
from studies.cifar10.group import Group, Measured, accuracy
from studies.cifar10.hybrids import WORDS
from studies.sheet import Result, Sheet, cells


def main(cut: Path, untrained: Path, tuned: Path, metrics: Path) -> None:
    """Writes the table to `metrics`. cut: folder of the group; untrained, tuned: of those stages, all items."""
    table(Measured(Group.load(cut), untrained, tuned)).save(metrics)


def table(measured: Measured) -> Result:
    """Every crossing in every setting, and the sources where something may change them."""
    group, groups = measured.group, measured.group.crossings
    measure = {setting: accuracy(measured.right(setting)) for setting in measured.all_settings}
    for setting in set(measure) - {"recalibrated", "frozen"}:
        measure[setting] = {path: measure[setting][path] for path in group.measured}
    rows, figures = [], {}
    for title, paths in groups.items():
        for path in paths:
            rows.append(_row(group, group.title(path), path, [own.get(path) for own in measure.values()]))
        means = {setting: mean(own[path] for path in paths) for setting, own in measure.items()}
        best = {setting: max(own[path] for path in paths) for setting, own in measure.items()}
        rows.append((f"{title}: mean", "", "", *cells(list(means.values()))))
        rows.append((f"{title}: best", "", "", *cells(list(best.values()))))
        figures[title] = {"mean": means, "best": best}
    for path in group.sources:
        rows.append(_row(group, group.title(path), path, [own.get(path) for own in measure.values()]))
    figures["sources"] = {group.title(path): measure["recalibrated"][path] for path in group.sources}
    columns_ = ("blocks from", "params", "MMACs", *(WORDS[setting] for setting in measure))
    notes = "Where a block has no BatchNorm, recalibration matches mean and variance of the stitch to its target's."
    return Result(figures, (Sheet("5. CNN and ViT: test accuracy, %", columns_, tuple(rows), notes),))


def _row(group: Group, title: str, path: Columns, values: Sequence[float | None]) -> tuple[str, ...]:
    worth = group.worth[path]
    return (title, f"{worth.params:,}", f"{worth.macs / 1e6:.1f}", *cells(values))


if __name__ == "__main__":
    run(main)
