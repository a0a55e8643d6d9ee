"""Table 1: every hybrid of the ResNet partition in every setting, beside its sources."""

from pathlib import Path
from statistics import mean
from typing import Any

from stages import run
from studies.cifar10.group import Group, Measured, accuracy
from studies.sheet import Result, Sheet, cells

WORDS = {
    "identity": "identity",
    "random": "random",
    "least_squares": "least squares",
    "recalibrated": "+ recalibration",
    "head": "+ refitted head",
    "layers": "+ refitted layers",
    "frozen": "+ refitted layers, one epoch frozen",
}


def main(cut: Path, untrained: Path, tuned: Path, metrics: Path) -> None:
    """Writes the table to `metrics`. cut: folder of the group; untrained, tuned: of those stages, all items."""
    table(Measured(Group.load(cut), untrained, tuned)).save(metrics)


def table(measured: Measured) -> Result:
    """Mean, least and best by setting; all hybrids. The sources are measured where something may change them."""
    group, right = measured.group, {setting: measured.right(setting) for setting in measured.all_settings}
    for setting in set(right) - {"recalibrated", "frozen"}:
        right[setting] = {path: right[setting][path] for path in group.hybrids}
    by_setting = {setting: accuracy(own) for setting, own in right.items()}
    figures: dict[str, Any] = {}
    rows = []
    for setting, own in by_setting.items():
        values = [own[path] for path in group.hybrids]
        figures[setting] = {"mean": mean(values), "min": min(values), "max": max(values)}
        sources = [own.get(path) for path in group.sources]
        images = str(len(next(iter(right[setting].values()))))
        rows.append((WORDS[setting], images, *cells([mean(values), min(values), max(values)]), *cells(sources)))
    summary = Sheet(
        f"1a. The {len(group.hybrids)} hybrids: test accuracy, %",
        ("setting", "test images", "mean", "min", "max", *group.names),
        tuple(rows),
        "Beside: the sources' own accuracy, untrained and after the same frozen epoch, in which their head learns.",
    )
    paths = sorted(group.hybrids, key=lambda path: -by_setting["recalibrated"][path])
    every = Sheet(
        "1b. Every hybrid, best first",
        ("blocks from", "params", "MMACs", *(WORDS[setting] for setting in by_setting)),
        tuple(
            (
                group.title(path),
                f"{group.worth[path].params:,}",
                f"{group.worth[path].macs / 1e6:.1f}",
                *cells([own.get(path) for own in by_setting.values()]),
            )
            for path in [*paths, *group.sources]
        ),
    )
    figures["sources"] = {group.title(p): by_setting["recalibrated"][p] for p in group.sources}
    figures["networks"] = [
        {"blocks": group.title(path), "hybrid": path in group.hybrids, "params": group.worth[path].params}
        | {setting: own.get(path) for setting, own in by_setting.items()}
        for path in [*group.sources, *paths]
    ]
    figures["cuts"] = {name: list(own) for name, own in zip(group.names, group.cuts, strict=True)}
    return Result(figures, (summary, every))


if __name__ == "__main__":
    run(main)
