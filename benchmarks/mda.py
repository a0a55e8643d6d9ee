"""The quick form of studies/mda: tables 1, 2 and 4 of the VGGs and ResNet-20, two tasks, two assemblies, no thirds and
no tuning, selected and repaired on fewer images; about 8 minutes.

python -m benchmarks.mda --quick [--data DIR] [--checkpoints DIR] [--work DIR]

Networks without a checkpoint are trained for two epochs; without the images, everything happens on digits. The last
line is one JSON object. The whole study, which docs/results.md shows, is `./run dvc repro` in studies/mda.
"""

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # before torch is loaded
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler's own notices

from rich.console import Console

from benchmarks import quick
from lib.base.errors import BrickyardError
from lib.params.base import read
from lib.params.run import Run
from stages import dataset, in_one_line, prepare
from studies.inputs import checkpoint
from studies.mda import assemblies, disassembly, forms, sources
from studies.mda.lab import Lab
from studies.sheet import Result

NETWORKS = ("vgg_a", "vgg_b", "resnet20")
ASSEMBLIES = ("three_and_seven", "three_networks")
REPAIR = {"mirror": False, "images": 250, "classifier_images": 500}
FEW = 10_000  # train images, for selection and for networks that have no checkpoint
EPOCHS, DIGITS_EPOCHS = 2, 8  # of networks that have no checkpoint


def main() -> None:
    """Prints the tables and, as the last line, the figures as JSON."""
    given = quick.parser("mda", str(__doc__)).parse_args()
    with in_one_line("benchmarks.mda"):
        params, missing = document(given.data, given.checkpoints)
        for line in missing:
            print(line)
        with quick.place(given.work, params):
            results = tables(bool(missing))
        console = Console(width=200)
        for result in results.values():
            for sheet in result.sheets:
                console.print(sheet.rich())
        print(json.dumps(figures(results)))
        sys.stdout.flush()


def document(images: Path, checkpoints: Path) -> tuple[dict[str, Any], list[str]]:
    """The params of the study for these folders, and a line on each thing that is missing and was replaced."""
    found = quick.params("mda", images)
    found["components"]["repair"] |= REPAIR
    found["study"]["select_images"] = FEW
    models = {name: found["zoo"]["models"][name] for name in NETWORKS}
    found["zoo"]["models"], found["contributions"]["models"] = models, list(NETWORKS)
    missing = []
    for name, entry in models.items():
        try:
            if not images.exists():
                raise BrickyardError(f"{images} not found")
            entry["weights"] = str(checkpoint(checkpoints, Path(entry["weights"]).name).resolve())
        except BrickyardError:
            missing.append(name)
            entry |= {"weights": "train", "training": {"epochs": EPOCHS if images.exists() else DIGITS_EPOCHS}}
    if images.exists():
        return found, [f"{name}: no checkpoint in {checkpoints}, trained for {EPOCHS} epochs" for name in missing]
    found["dataset"] |= {"source": "digits"}
    found["zoo"]["training"] |= {"epochs": DIGITS_EPOCHS, "augmentation": {"crop_padding": 4, "flip": False}}
    return found, [f"{images} not found: digits instead, all networks trained for {DIGITS_EPOCHS} epochs"]


def tables(training: bool) -> dict[str, Result]:
    """By stage, in the current folder; training: whether a network is trained, which then is on few images."""
    prepare(read("run", Run))
    dataset.main(quick.DATASET, Path("metrics/dataset.json"))
    quick.zoo_of(NETWORKS, quick.fewer("train", FEW) if training else quick.DATASET)
    told = Path("artifacts/sources")
    for name in NETWORKS:
        sources.main(name, quick.DATASET, quick.ZOO, told)
    lab = Lab(quick.DATASET, quick.ZOO, told)
    return {
        "disassembly": disassembly.result({name: disassembly.found(lab, name, full=False) for name in NETWORKS}),
        "assemblies": assemblies.result(
            {name: assemblies.found(lab, name, NETWORKS, tune=False) for name in ASSEMBLIES}
        ),
        "forms": forms.result({name: forms.found(lab, name) for name in NETWORKS}),
    }


def figures(results: Mapping[str, Result]) -> dict[str, Any]:
    """The last line: gaps in points (restricted source minus repaired component, mean of the sources minus repaired
    assembly without training), ratios, and the relative difference of logits.
    """
    one, two, four = (results[name].figures for name in ("disassembly", "assemblies", "forms"))
    gaps, assembled, pairs = one["gaps"], dict[int, list[float]](), four["assemblies"]
    for row in two["rows"]:
        assembled.setdefault(len(row["parts"]), []).append(assemblies.gap(row, two["scaling"]))
    found = {
        "gap_official_max": max(own["gap"] for own in gaps["official"].values()),
        "gap_half_vgg": gaps["half"]["vgg"]["gap"],
        "gap_half_residual": gaps["half"]["residual"]["gap"],
        "assembly_gap_two": max(assembled[2]),
        "assembly_gap_three": max(assembled[3]),
        "contribution_speedup": min(row["speedup"] for row in four["contributions"]),
        "contribution_memory_ratio": min(row["memory_ratio"] for row in four["contributions"]),
        "parallel_overhead": max(ratio for row in pairs for ratio in row["parallel"].values()),
        "padded_parallel_logit_diff": max(
            (row["padded_difference"] for row in pairs if row["padded_difference"] is not None), default=None
        ),
    }
    return {name: float(f"{value:.4g}") if isinstance(value, float) else value for name, value in found.items()}


if __name__ == "__main__":
    main()
