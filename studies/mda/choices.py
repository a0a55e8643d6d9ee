"""Table 6: what is chosen on validation images: how contributions are counted, and how components are repaired."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from lib.base import artifacts
from lib.params.base import read
from lib.params.components import Repair
from lib.params.run import Run
from stages import prepare, run
from studies.mda.disassembly import NONE
from studies.mda.lab import Lab, Way
from studies.mda.tasks import TASKS, of_component, of_source
from studies.sheet import Result, Sheet, cells

ON = ("0-2", "even")
SIZE = 1 / 2  # of the official component's


def ways(how: Repair) -> dict[str, Way]:
    """What is compared with what params.yaml asks for, which comes first."""
    found = {
        "chosen": Way(how),
        "hard: soft": Way(how, hard="soft"),
        "repair: none": Way(NONE),
        "repair: bn": Way(how.model_copy(update={"method": "bn"})),
        "steps: 0": Way(how.model_copy(update={"steps": 0})),
        "joint: 0": Way(how.model_copy(update={"joint": 0})),
        "joint: 4": Way(how.model_copy(update={"joint": 4})),
        "ridge: 1e-3": Way(how.model_copy(update={"ridge": 1e-3})),
        "ridge: 3e-2": Way(how.model_copy(update={"ridge": 3e-2})),
        "classifier: logits": Way(how.model_copy(update={"classifier": "logits"})),
        "classifier_ridge: 1e-2": Way(how.model_copy(update={"classifier_ridge": 1e-2})),
        "classifier_images: 500": Way(how.model_copy(update={"classifier_images": 500})),
        "mirror: false": Way(how.model_copy(update={"mirror": False})),
    }
    return {label: replace(way, size=SIZE) for label, way in found.items()}


def main(model: str, dataset: Path, zoo: Path, sources: Path, metrics: Path) -> None:
    """Writes mean gaps of components, by how they come about, of network `model` to `metrics`.

    dataset, zoo, sources: folders of the stages of these names, with all items.
    """
    prepare(read("run", Run))
    artifacts.write_metrics(metrics, found(Lab(dataset, zoo, sources), model))


def found(lab: Lab, name: str) -> dict[str, Any]:
    """Mean gap over tasks, in points, by way."""
    source, gaps = lab.source(name), {}
    for label, way in ways(read("components.repair", Repair)).items():
        own = []
        for classes in (TASKS[task] for task in ON):
            restricted = of_source(source, classes, "validation")[1]
            own.append(restricted - of_component(lab, source.component(classes, way), classes, "validation"))
        gaps[label] = sum(own) / len(own)
    return gaps


def result(found: Mapping[str, Any]) -> Result:
    """A row a way, a column a network; found: by network."""
    rows: list[dict[str, Any]] = []
    for label in next(iter(found.values())):
        gaps = {name: own[label] for name, own in found.items()}
        rows.append({"way": label, "gaps": gaps, "mean": sum(gaps.values()) / len(gaps)})
    columns = ("", *rows[0]["gaps"], "mean")
    lines = tuple((row["way"], *cells([*row["gaps"].values(), row["mean"]], 2)) for row in rows)
    notes = (
        f"Mean over the tasks {' and '.join(ON)} of the gap between restricted source and component on validation "
        "images, in points, at half of the official component's size."
    )
    return Result({"rows": rows}, (Sheet("6. Chosen on validation images", columns, lines, notes),))


if __name__ == "__main__":
    run(main)
