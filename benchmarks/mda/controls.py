"""Table 3: channels chosen by other scores, at the same sizes, with and without the same repair."""

from collections.abc import Iterator, Sequence
from statistics import mean
from typing import Any, get_args

from benchmarks.mda.disassembly import NONE
from benchmarks.mda.lab import Lab, Score, Wanted, Way
from benchmarks.mda.tasks import TASKS, of_component, of_source
from benchmarks.sheet import Result, Sheet, cells
from lib.params.base import read
from lib.params.components import Repair

NETWORKS = ("vgg_b", "resnet20", "googlenet")
ON = ("0-2", "even", "all ten")
SIZES = {"official": 1.0, "half": 1 / 2}
SCORES: tuple[Score, ...] = get_args(Score)


def wanted(lab: Lab, names: Sequence[str]) -> Iterator[Wanted]:
    """The components of this table."""
    ways = [way for share in SIZES.values() for way in _ways(lab, share).values()]
    for name in (name for name in NETWORKS if name in names):
        yield from (Wanted(name, TASKS[task], way) for task in ON for way in ways)


def table(lab: Lab, names: Sequence[str]) -> Result:
    """A row a network, task and size; columns: score and repair."""
    rows = list[dict[str, Any]]()
    for name in (name for name in NETWORKS if name in names):
        source = lab.source(name)
        for task in ON:
            classes = TASKS[task]
            for size, share in SIZES.items():
                row: dict[str, Any] = {"source": name, "task": task, "size": size}
                row["restricted"] = of_source(source, classes)[1]
                for column, way in _ways(lab, share).items():
                    found = source.component(classes, way)
                    row[column] = of_component(lab, found, classes)
                    row["params"] = max(row.get("params", 0), found.recipe.cost.params)
                rows.append(row)
    columns = list(_ways(lab, 1))
    lines = tuple(
        (
            row["source"],
            row["task"],
            row["size"],
            f"{row['params']:,}",
            *cells([row["restricted"], *(row[column] for column in columns)]),
        )
        for row in rows
    )
    sheet = Sheet(
        "3a. Other scores at the same size: test accuracy, %",
        ("source", "task", "size", "params", "source, restricted", *columns),
        lines,
        "magnitude, random and fpgm (geometric median, Torch-Pruning) know nothing of the task.",
    )
    return Result({"rows": rows}, (sheet, _means(rows)))


def _means(rows: Sequence[dict[str, Any]]) -> Sheet:
    lines = tuple(
        (
            size,
            label,
            *cells([mean(row[f"{score} {label}"] for row in rows if row["size"] == size) for score in SCORES]),
        )
        for size in SIZES
        for label in ("unrepaired", "repaired")
    )
    return Sheet("3b. Means over networks and tasks", ("size", "", *SCORES), lines)


def _ways(lab: Lab, share: float) -> dict[str, Way]:
    """By column: score and repair."""
    repairs = {"unrepaired": NONE, "repaired": read("components.repair", Repair)}
    return {
        f"{score} {label}": Way(repair, share, score, lab.params.hard)
        for label, repair in repairs.items()
        for score in SCORES
    }
