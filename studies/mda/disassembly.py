"""Table 1: components beside their sources: official, repaired, and at half and a third of the official size."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lib.base import artifacts
from lib.params.base import read
from lib.params.components import Repair
from lib.params.run import Run
from stages import prepare, run
from studies.mda.lab import Component, Lab, Source, Way
from studies.mda.tasks import KINDS, SINGLE, TASKS, auroc, kind, of_component, of_source
from studies.sheet import Result, Sheet, cells

FEW = ("0-2", "3-9")  # tasks of a quick run
SIZES = {"official": 1.0, "half": 1 / 2, "third": 1 / 3}
NONE = Repair(method="none")


def main(model: str, dataset: Path, zoo: Path, sources: Path, metrics: Path) -> None:
    """Writes accuracies and sizes of the components of network `model` to `metrics`.

    dataset, zoo, sources: folders of the stages of these names, with all items.
    """
    prepare(read("run", Run))
    artifacts.write_metrics(metrics, found(Lab(dataset, zoo, sources), model))


def found(lab: Lab, name: str, full: bool = True) -> dict[str, Any]:
    """Components of network `name`, a row a task, and those of single classes; full: with those of a third of the
    official size, three more tasks, and three single classes instead of one.
    """
    ways, source = _ways(lab, full), lab.source(name)
    tasks = {task: classes for task, classes in TASKS.items() if full or task in FEW}
    single = []
    for c in SINGLE if full else SINGLE[:1]:
        official, repaired = (source.component([c], ways[size]) for size in ("unrepaired", "official"))
        before, after = (auroc(lab, one, source, c) for one in (official, repaired))
        single.append(
            {
                "source": name,
                "class": lab.names[c],
                **dict(zip(("probability", "logit", "official"), before, strict=True)),
                "repaired": after[2],
                "share": official.recipe.cost.params / source.card.cost.params,
            }
        )
    return {"rows": [_row(lab, source, task, own, ways) for task, own in tasks.items()], "single": single}


def result(found: Mapping[str, Any]) -> Result:
    """A sheet of accuracies, one of sizes, one of gaps by kind, and one of single classes; found: by network."""
    rows = [row for own in found.values() for row in own["rows"]]
    single = [row for own in found.values() for row in own["single"]]
    sizes = [size for size in SIZES if size in rows[0]]
    gaps = {
        size: {group: worst for group in KINDS if (worst := _worst(rows, group, size)) is not None} for size in sizes
    }
    sheets = (_accuracies(rows, sizes), _sizes(rows, sizes), _gaps(gaps), _singles(single))
    return Result({"rows": rows, "single": single, "gaps": gaps}, sheets)


def _ways(lab: Lab, full: bool = True) -> dict[str, Way]:
    how, hard = read("components.repair", Repair), lab.params.hard
    sizes = {size: share for size, share in SIZES.items() if full or size != "third"}
    return {"unrepaired": Way(NONE, hard=hard)} | {size: Way(how, share, hard=hard) for size, share in sizes.items()}


def _row(lab: Lab, source: Source, task: str, classes: Sequence[int], ways: Mapping[str, Way]) -> dict[str, Any]:
    everything, restricted = of_source(source, classes)
    found: dict[str, Component] = {size: source.component(classes, way) for size, way in ways.items()}
    plain = found.pop("unrepaired")
    return {
        "source": source.name,
        "task": task,
        "all_classes": everything,
        "restricted": restricted,
        "unrepaired": of_component(lab, plain, classes),
        **{size: of_component(lab, one, classes) for size, one in found.items()},
        "params": {size: one.recipe.cost.params for size, one in found.items()},
        "macs": {size: one.recipe.cost.macs for size, one in found.items()},
        "share": {size: one.recipe.cost.params / source.card.cost.params for size, one in found.items()},
    }


def _worst(rows: Sequence[dict[str, Any]], group: str, size: str) -> dict[str, Any] | None:
    """The greatest gap between restricted source and component, in points, and where it is."""
    own = [
        (row["restricted"] - row[size], f"{row['source']} {row['task']}")
        for row in rows
        if kind(row["source"]) == group
    ]
    return {"gap": max(own)[0], "where": max(own)[1], "mean": sum(gap for gap, _ in own) / len(own)} if own else None


def _accuracies(rows: Sequence[dict[str, Any]], sizes: Sequence[str]) -> Sheet:
    columns = ("source", "task", "source, all classes", "source, restricted", "official, unrepaired", *sizes)
    lines = tuple(
        (
            row["source"],
            row["task"],
            *cells([row[key] for key in ("all_classes", "restricted", "unrepaired", *sizes)]),
        )
        for row in rows
    )
    return Sheet(
        "1a. Components: accuracy on the test images of their classes, %",
        columns,
        lines,
        f"Official: the authors' thresholds; {' and '.join(sizes[1:])}: of its parameters, by one factor on all "
        "thresholds. All but the unrepaired component are repaired in closed form. What a component is to be compared "
        "with is the source restricted to the task's classes.",
    )


def _sizes(rows: Sequence[dict[str, Any]], sizes: Sequence[str]) -> Sheet:
    lines = tuple(
        (
            row["source"],
            row["task"],
            *cells([row["share"][size] for size in sizes], 3),
            *(f"{row['params'][size]:,}" for size in sizes),
            *cells([row["macs"][size] / 1e6 for size in sizes]),
        )
        for row in rows
    )
    columns = [f"{what} {size}" for what in ("share", "params", "MMACs") for size in sizes]
    return Sheet("1b. Their sizes", ("source", "task", *columns), lines, "Share: of the source's parameters.")


def _gaps(gaps: dict[str, dict[str, Any]]) -> Sheet:
    lines = tuple(
        (size, group, *cells([found["gap"], found["mean"]]), found["where"])
        for size, groups in gaps.items()
        for group, found in groups.items()
    )
    return Sheet(
        "1c. Gap between restricted source and repaired component, points",
        ("size", "kind", "greatest", "mean", "greatest at"),
        lines,
    )


def _singles(rows: Sequence[dict[str, Any]]) -> Sheet:
    lines = tuple(
        (
            row["source"],
            row["class"],
            *cells([row[key] for key in ("probability", "logit", "official", "repaired", "share")], 3),
        )
        for row in rows
    )
    columns = ("source", "class", "source's probability", "source's logit", "component's logit", "repaired", "share")
    notes = "A component with one class answers it for every image: AUROC of its logit, that class against the rest."
    return Sheet("1d. Single classes: AUROC on all test images", columns, lines, notes)


if __name__ == "__main__":
    run(main)
