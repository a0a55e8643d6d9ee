"""Components and assemblies on CIFAR-10: real images, published and self-trained networks.

python -m benchmarks.mda [--quick] [--tables 1,2,…] [--data DIR] [--checkpoints DIR] [--work DIR] [--jobs N]

Tables: 1 components; 2 assemblies; 3 other scores; 4 forms; 5 choice within a budget; 6 what is chosen on validation
images; 7 decision routes. --quick: tables 1, 2 and 4 of the VGGs and ResNet-20, two tasks, two assemblies, no thirds
and no tuning, selected and repaired on fewer images. Everything that takes time is kept in the work folder by what it
depends on, so that a run that was killed goes on where it was. The full run writes docs/results.md and its pictures
from all results that are there. Networks without a checkpoint are trained for two epochs; without the images,
everything happens on digits. The last line is one JSON object.
"""

import argparse
import json
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # before torch is loaded
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler's own notices

from rich.console import Console

from benchmarks import workplace
from benchmarks.mda import assemblies, budgets, choices, controls, disassembly, forms, page, routes, work, workers
from benchmarks.mda.lab import Lab, Wanted
from benchmarks.mda.tasks import KINDS, QUICK
from benchmarks.sheet import Result
from lib.params.base import read
from lib.params.run import Run
from stages import in_one_line, prepare

TABLES: Mapping[int, Callable[[Lab, Sequence[str], bool], Result]] = {
    1: disassembly.table,
    2: assemblies.table,
    3: lambda lab, names, full: controls.table(lab, names),
    4: lambda lab, names, full: forms.table(lab, names),
    5: lambda lab, names, full: budgets.table(lab, names),
    6: lambda lab, names, full: choices.table(lab, names),
    7: lambda lab, names, full: routes.table(lab),
}
COMPONENTS: Mapping[int, Callable[[Lab, Sequence[str], bool], Iterable[Wanted]]] = {
    1: disassembly.wanted,
    2: assemblies.wanted,
    3: lambda lab, names, full: controls.wanted(lab, names),
    4: lambda lab, names, full: forms.wanted(lab, names),
    5: lambda lab, names, full: budgets.wanted(lab, names),
    6: lambda lab, names, full: choices.wanted(lab, names),
}
QUICK_TABLES = (1, 2, 4)


def main() -> None:
    """Prints the tables and, as the last line, the figures as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mda", description=str(__doc__).splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data/cifar10"))
    parser.add_argument("--checkpoints", type=Path, default=Path("../shared/checkpoints"))
    parser.add_argument("--work", type=Path, default=Path(".scratch/mda"), help="what is kept, to go on from")
    parser.add_argument("--tables", type=_numbers, help="e.g. 1,2; all by default")
    parser.add_argument(
        "--jobs", type=_count, default=_cores(), help="processes that make components; all cores, up to 8, by default"
    )
    parser.add_argument("--quick", action="store_true", help="less: see above")
    parser.add_argument("--train-zoo", action="store_true", help="makes the networks that are missing, and ends")
    given = parser.parse_args()
    tables = given.tables or (QUICK_TABLES if given.quick else tuple(TABLES))
    names = QUICK if given.quick else tuple(name for group in KINDS.values() for name in group)
    with in_one_line("benchmarks.mda"):
        context, instead = work.enter(given.work, given.data, given.checkpoints, given.quick)
        with context:
            for line in instead:
                print(line)
            prepare(read("run", Run))
            lab = Lab(work.training_images(given.quick and bool(instead)), work.FEW if given.quick else None)
            if given.train_zoo:
                for name in names:
                    lab.source(name)
                return
            _run(lab, tables, names, given.quick, given.jobs)
            found = stored(given.quick)
            if not given.quick:
                page.write(workplace.ROOT / "docs", found, lab)
            print(json.dumps(figures(found)))


def _run(lab: Lab, numbers: Sequence[int], names: Sequence[str], quick: bool, jobs: int) -> None:
    console = Console(width=200)
    for number in numbers:
        started = time.time()
        if number in COMPONENTS:
            workers.make(lab, COMPONENTS[number](lab, names, not quick), jobs)
        result = TABLES[number](lab, names, not quick)
        result.save(_file(number, quick))
        for sheet in result.sheets:
            console.print(sheet.rich())
        if number == 1:
            console.print(disassembly.seconds(lab, names, not quick).rich())
        console.print(f"table {number}: {time.time() - started:.0f} s")


def stored(quick: bool) -> dict[int, Result]:
    """The results that are there, by table."""
    return {number: Result.load(file) for number in TABLES if (file := _file(number, quick)).exists()}


def figures(results: Mapping[int, Result]) -> dict[str, Any]:
    """The last line: gaps in points (restricted source minus repaired component, mean of the sources minus repaired
    assembly without training), ratios, and the relative difference of logits; None of tables that have not been made.
    """
    one, two, four = (results[number].figures if number in results else None for number in (1, 2, 4))
    gaps = one["gaps"] if one else {}
    assembled: dict[int, list[float]] = {2: [], 3: []}
    for row in two["rows"] if two else []:
        assembled[len(row["parts"])].append(assemblies.gap(row, two["scaling"]))  # type: ignore[index]
    pairs = four["assemblies"] if four else []
    ratios = [ratio for row in pairs for ratio in row["parallel"].values()]
    found = {
        "gap_official_max": max((own["gap"] for own in gaps["official"].values()), default=None) if gaps else None,
        "gap_half_vgg": gaps["half"].get("vgg", {}).get("gap") if gaps else None,
        "gap_half_residual": gaps["half"].get("residual", {}).get("gap") if gaps else None,
        "assembly_gap_two": max(assembled[2], default=None),
        "assembly_gap_three": max(assembled[3], default=None),
        "contribution_speedup": min(row["speedup"] for row in four["contributions"]) if four else None,
        "contribution_memory_ratio": min(row["memory_ratio"] for row in four["contributions"]) if four else None,
        "parallel_overhead": max(ratios, default=None),
        "padded_parallel_logit_diff": max(
            (row["padded_difference"] for row in pairs if row["padded_difference"] is not None), default=None
        ),
    }
    return {name: float(f"{value:.4g}") if isinstance(value, float) else value for name, value in found.items()}


def _file(number: int, quick: bool) -> Path:
    return Path("results") / ("quick" if quick else "full") / f"table{number}.json"


def _cores() -> int:
    return min(8, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of processes, e.g. 2")
    return int(text)


def _numbers(text: str) -> tuple[int, ...]:
    numbers = text.split(",")
    if unknown := [number for number in numbers if number not in map(str, TABLES)]:
        raise argparse.ArgumentTypeError(f"there is no table {unknown[0]!r}; there are 1-{max(TABLES)}, e.g. 1,2")
    return tuple(map(int, numbers))


if __name__ == "__main__":
    main()
