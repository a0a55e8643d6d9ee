"""Reassembly on CIFAR-10: real images, published and self-trained networks.

python -m benchmarks.cifar10 [--quick] [--untuned] [--frozen] [--tables 1,2,…]
                            [--data DIR] [--checkpoints DIR] [--work DIR]
python -m benchmarks.cifar10 --train-zoo | --page

Tables: 1 every hybrid of the ResNet partition; 2 which predictor ranks them; 3 under budgets; 4 ablation; 5 CNN
and ViT; 6 transfer. --quick: tables 1-3 without tuning. Everything that takes time is kept in the work folder by what
it depends on, so that a run that was killed goes on where it was, and tables can be made one by one. The full run
writes docs/results.md and its pictures from all results that are there. The last line is one JSON object.
"""

import argparse
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # before torch is loaded
    os.environ.setdefault("OMP_NUM_THREADS", "1")

from rich.console import Console

from benchmarks.cifar10 import ablation, budgets, families, hybrids, page, predictors, transfer, work
from benchmarks.cifar10.study import BASIC, SETTINGS, Study, open_study
from benchmarks.sheet import Result
from lib.images.data import DataSet
from lib.params.base import read
from lib.params.run import Run
from stages import in_one_line, prepare

DOCS = work.ROOT / "docs"
QUICK = (1, 2, 3)


class Bench:
    """The groups of networks, opened when a table asks for them."""

    def __init__(self, workers: int, settings: Sequence[str], full: bool):
        self.workers, self.settings, self.full = workers, settings, full

    @cached_property
    def images(self) -> DataSet:
        """All classes."""
        return work.split()

    @cached_property
    def resnets(self) -> Study:
        """The three published networks."""
        return open_study("resnets", ["resnet20", "resnet32", "resnet56"], self.images, self.workers, self.settings)

    @cached_property
    def mixed(self) -> Study:
        """The zoo that is trained here, on all classes."""
        return open_study("mixed", work.trained("all"), self.images, self.workers, self.settings)

    @cached_property
    def halves(self) -> Study:
        """Networks that know the first five classes, on images of the others."""
        task = transfer.target(self.images, len(self.images.probe))
        return open_study("halves", work.trained("0-4"), task, self.workers)


TABLES: Mapping[int, Callable[[Bench, bool], Result]] = {
    1: lambda bench, tune: hybrids.table(bench.resnets, tune),
    2: lambda bench, tune: predictors.table(bench.resnets, tune),
    3: lambda bench, tune: budgets.table(bench.resnets, tune, bench.full),
    4: lambda bench, tune: ablation.table(bench.resnets, tune),
    5: lambda bench, tune: families.table(bench.mixed, tune),
    6: lambda bench, tune: transfer.table(bench.halves, tune),
}


def main() -> None:
    """Prints the tables and, as the last line, the figures as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cifar10", description=str(__doc__).splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data/cifar10"))
    parser.add_argument("--checkpoints", type=Path, default=Path("../shared/checkpoints"))
    parser.add_argument("--work", type=Path, default=Path(".scratch/cifar10"), help="what is kept, to go on from")
    parser.add_argument("--tables", type=_numbers, help="e.g. 1,2,5; all by default")
    parser.add_argument("--quick", action="store_true", help="tables 1-3, without tuning")
    parser.add_argument("--untuned", action="store_true", help="without tuning")
    parser.add_argument(
        "--frozen", action="store_true", help="table 3 without networks that learn whole: the longest part"
    )
    parser.add_argument("--train-zoo", action="store_true", help="trains the networks that are missing, and ends")
    parser.add_argument("--page", action="store_true", help="writes docs/results.md from the kept results, and ends")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="threads, a batch each; changes no bits")
    given = parser.parse_args()
    tables = given.tables or (QUICK if given.quick else tuple(TABLES))
    with in_one_line("benchmarks.cifar10"), work.enter(given.work, given.data, given.checkpoints):
        prepare(read("run", Run))
        work.split()
        if given.train_zoo:
            for name in [*work.trained("all"), *work.trained("0-4")]:
                work.network(name)
            return
        if given.page:
            page.write(DOCS, stored(), read("run", Run).seed)
            return
        bench = Bench(given.workers, BASIC if given.quick else tuple(SETTINGS), not given.frozen)
        _run(bench, tables, not (given.quick or given.untuned))
        if not given.quick:
            page.write(DOCS, stored(), read("run", Run).seed)
        print(json.dumps(figures(stored(tuned=not (given.quick or given.untuned)))))


def _run(bench: Bench, numbers: tuple[int, ...], tune: bool) -> None:
    console = Console(width=160)
    for number in numbers:
        started = time.process_time()
        result = TABLES[number](bench, tune)
        result.save(_file(number, tune))
        for sheet in result.sheets:
            console.print(sheet.rich())
        console.print(f"table {number}: {time.process_time() - started:.0f} CPU s")


def stored(tuned: bool | None = None) -> dict[int, Result]:
    """The results that are there, by table; None: tuned ones where there are any."""
    found = {}
    for number in TABLES:
        kinds = [True, False] if tuned is None else [tuned]
        files = [file for kind in kinds if (file := _file(number, kind)).exists()]
        if files:
            found[number] = Result.load(files[0])
    return found


def figures(results: Mapping[int, Result]) -> dict[str, Any]:
    """The last line: accuracies in percent, regret in points, None of tables that have not been made.

    budgets_beating_zoo: at how many the pick beats every zoo network within the budget, given the same tuning, under
    one protocol at least.
    """
    one, two, three = (results[number].figures if number in results else None for number in (1, 2, 3))
    taus = two["recalibrated"] if two else {}
    won = [[row["beats_zoo"] for row in own["rows"]] for own in three.values()] if three else []
    found = {
        "mean_random": one and one["random"]["mean"],
        "mean_least_squares": one and one["least_squares"]["mean"],
        "mean_recalibrated": one and one["recalibrated"]["mean"],
        "best_recalibrated": one and one["recalibrated"]["max"],
        "best_source": one and max(one["sources"].values()),
        **{f"tau_{name}": taus[name]["value"] if taus else None for name in ("stitch_r2", "few_shot", "naswot")},
        "regret_points_max": three and three[budgets.UNTRAINED]["regret_max"],
        "budgets": three and three[budgets.UNTRAINED]["budgets"],
        "budgets_beating_zoo": three and sum(map(any, zip(*won, strict=True))),
    }
    return {name: round(value, 4) if isinstance(value, float) else value for name, value in found.items()}


def _file(number: int, tuned: bool) -> Path:
    return Path("results") / ("tuned" if tuned else "untuned") / f"table{number}.json"


def _numbers(text: str) -> tuple[int, ...]:
    numbers = text.split(",")
    if unknown := [number for number in numbers if number not in map(str, TABLES)]:
        raise argparse.ArgumentTypeError(f"there is no table {unknown[0]!r}; there are 1-{max(TABLES)}, e.g. 1,2")
    return tuple(map(int, numbers))


if __name__ == "__main__":
    main()
