"""Table 6: what is chosen on validation images: how contributions are counted, and how components are repaired."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from benchmarks.mda.disassembly import NONE
from benchmarks.mda.lab import Lab, Wanted, Way
from benchmarks.mda.tasks import TASKS, of_component, of_source
from benchmarks.sheet import Result, Sheet, cells
from lib.params.base import read
from lib.params.components import Repair

NETWORKS = ("vgg_b", "resnet20", "googlenet")
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


def wanted(lab: Lab, names: Sequence[str]) -> Iterator[Wanted]:
    """The components of this table."""
    found = ways(read("components.repair", Repair)).values()
    for name in (name for name in NETWORKS if name in names):
        yield from (Wanted(name, TASKS[task], way, ("validation",)) for task in ON for way in found)


def table(lab: Lab, names: Sequence[str]) -> Result:
    """Mean gap over tasks, a column a network."""
    own = [name for name in NETWORKS if name in names]
    rows: list[dict[str, Any]] = []
    for label, way in ways(read("components.repair", Repair)).items():
        found = {}
        for name in own:
            source = lab.source(name)
            gaps = []
            for classes in (TASKS[task] for task in ON):
                restricted = of_source(source, classes, "validation")[1]
                gaps.append(restricted - of_component(lab, source.component(classes, way), classes, "validation"))
            found[name] = sum(gaps) / len(gaps)
        rows.append({"way": label, "gaps": found, "mean": sum(found.values()) / len(found)})
    columns = ("", *rows[0]["gaps"], "mean")
    lines = tuple((row["way"], *cells([*row["gaps"].values(), row["mean"]], 2)) for row in rows)
    notes = (
        f"Mean over the tasks {' and '.join(ON)} of the gap between restricted source and component on validation "
        "images, in points, at half of the official component's size."
    )
    return Result({"rows": rows}, (Sheet("6. Chosen on validation images", columns, lines, notes),))
