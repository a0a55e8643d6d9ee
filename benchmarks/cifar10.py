"""The quick form of studies/cifar10: tables 1 to 3, of the published ResNets, without tuning; about 6 minutes.

python -m benchmarks.cifar10 --quick [--data DIR] [--checkpoints DIR] [--work DIR]

The last line is one JSON object. The whole study, which docs/results.md shows, is `./run dvc repro` in studies/cifar10.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks import quick
from stages import in_one_line
from studies.cifar10 import budgets, cut, hybrids, predictors, untrained
from studies.cifar10.group import Group, Measured
from studies.sheet import Result

NETWORKS = ("resnet20", "resnet32", "resnet56")
SETTINGS = ("identity", "random", "least_squares", "recalibrated")


def main() -> None:
    """Prints the tables and, as the last line, the figures as JSON."""
    given = quick.parser("cifar10", str(__doc__)).parse_args()
    with in_one_line("benchmarks.cifar10"):
        with quick.place(given.work, quick.published(given, NETWORKS)):
            results = tables()
        console = Console(width=160)
        for result in results.values():
            for sheet in result.sheets:
                console.print(sheet.rich())
        print(json.dumps(figures(results)))
        sys.stdout.flush()


def tables() -> dict[str, Result]:
    """By stage, in the current folder."""
    groups, asked = Path("artifacts/cut/resnets"), Path("artifacts/untrained")
    quick.dataset_and_zoo(NETWORKS)
    cut.main("resnets", quick.DATASET, quick.ZOO, groups, Path("metrics/cut.json"))
    for item in (f"resnets-{setting}" for setting in SETTINGS):
        untrained.main(item, quick.DATASET, quick.ZOO, groups, asked / item)
    measured = Measured(Group.load(groups), asked, None, SETTINGS)
    return {
        "hybrids": hybrids.table(measured),
        "predictors": predictors.table(measured),
        "budgets": budgets.table(measured),
    }


def figures(results: Mapping[str, Result]) -> dict[str, Any]:
    """The last line: accuracies in percent, regret in points.

    budgets_beating_zoo: at how many the pick beats every zoo network within the budget, given the same tuning, under
    one protocol at least.
    """
    one, two, three = (results[name].figures for name in ("hybrids", "predictors", "budgets"))
    taus = two["recalibrated"]
    won = [[row["beats_zoo"] for row in own["rows"]] for own in three.values()]
    found = {
        "mean_random": one["random"]["mean"],
        "mean_least_squares": one["least_squares"]["mean"],
        "mean_recalibrated": one["recalibrated"]["mean"],
        "best_recalibrated": one["recalibrated"]["max"],
        "best_source": max(one["sources"].values()),
        **{f"tau_{name}": taus[name]["value"] for name in ("stitch_r2", "few_shot", "naswot")},
        "regret_points_max": three[budgets.UNTRAINED]["regret_max"],
        "budgets": three[budgets.UNTRAINED]["budgets"],
        "budgets_beating_zoo": sum(map(any, zip(*won, strict=True))),
    }
    return {name: round(value, 4) if isinstance(value, float) else value for name, value in found.items()}


if __name__ == "__main__":
    main()
