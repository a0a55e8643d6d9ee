"""Table 3: channels chosen by other scores, at the same sizes, with and without the same repair."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any, get_args

from lib.base import artifacts
from lib.params.base import read
from lib.params.components import Repair
from lib.params.run import Run
from stages import prepare, run
from studies.mda.disassembly import NONE
from studies.mda.lab import Lab, Score, Way
from studies.mda.tasks import TASKS, of_component, of_source
from studies.sheet import Result, Sheet, cells

ON = ("0-2", "even", "all ten")
SIZES = {"official": 1.0, "half": 1 / 2}
SCORES: tuple[Score, ...] = get_args(Score)
LABELS = ("unrepaired", "repaired")


def main(model: str, dataset: Path, zoo: Path, sources: Path, metrics: Path) -> None:
    """Writes accuracies of components with other scores of network `model` to `metrics`.

    dataset, zoo, sources: folders of the stages of these names, with all items.
    """
    prepare(read("run", Run))
    artifacts.write_metrics(metrics, found(Lab(dataset, zoo, sources), model))


def found(lab: Lab, name: str) -> dict[str, Any]:
    """Components of network `name`, a row a task and size."""
    rows, source = list[dict[str, Any]](), lab.source(name)
    for task in ON:
        classes = TASKS[task]
        for size, share in SIZES.items():
            row: dict[str, Any] = {"source": name, "task": task, "size": size}
            row["restricted"] = of_source(source, classes)[1]
            for column, way in _ways(lab, share).items():
                made = source.component(classes, way)
                row[column] = of_component(lab, made, classes)
                row["params"] = max(row.get("params", 0), made.recipe.cost.params)
            rows.append(row)
    return {"rows": rows}


def result(found: Mapping[str, Any]) -> Result:
    """A row a network, task and size; columns: score and repair; found: by network."""
    rows = [row for own in found.values() for row in own["rows"]]
    columns = [f"{score} {label}" for label in LABELS for score in SCORES]
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
        "magnitude, random, fpgm (geometric median, Torch-Pruning) and hrank (rank of feature maps on 50 train images "
        "a class) know nothing of the task.",
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
        for label in LABELS
    )
    return Sheet("3b. Means over networks and tasks", ("size", "", *SCORES), lines)


def _ways(lab: Lab, share: float) -> dict[str, Way]:
    """By column: score and repair."""
    repairs = dict(zip(LABELS, (NONE, read("components.repair", Repair)), strict=True))
    return {
        f"{score} {label}": Way(repair, share, score, lab.params.hard)
        for label, repair in repairs.items()
        for score in SCORES
    }


if __name__ == "__main__":
    run(main)
