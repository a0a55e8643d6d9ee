"""What people bring, right or refused in one line: parameters, damaged files, kills, images, checkpoints, networks.

python -m benchmarks.faults [--quick] [--seed S] [--networks N] [--only KIND ...]

Each kind is a table of cases or is drawn from the seed. Right: the right result. Refused: one line that names the
thing. Wrong: a wrong result in silence, damage that nothing notices, a line that names nothing, a traceback. --quick
takes minutes: 120 networks and 6 kills instead of 2,000 and 50. Faults are listed; the last line is the counts as JSON.
"""

import argparse
import json
import os
import warnings
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

if __name__ == "__main__":  # before torch is loaded
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.faults import bits, checkpoints, images, judge, kills, networks
from benchmarks.faults.job import Job
from benchmarks.faults.params import cases, names, put
from lib.base.code import ROOT
from lib.base.progress import track
from lib.params.document import check
from lib.params.parse import parse
from stages import in_one_line

_BITS, _KILLS, _NETWORKS = 600, 50, 2000
_QUICK_KILLS, _QUICK_NETWORKS = 6, 120
_SHOWN = 20  # faults of a kind


@dataclass(frozen=True)
class Found:
    """Of one kind: how many cases were tried, how many were refused, faults by line; figures: for the JSON."""

    tried: int
    refused: int
    faults: list[str]
    figures: dict[str, float] = field(default_factory=dict)


def main(quick: bool, seed: int, count: int | None, only: list[str]) -> None:
    """Prints what is wrong, a table and, as the last line, the counts."""
    console = Console(width=120)
    drawn = count or (_QUICK_NETWORKS if quick else _NETWORKS)
    kinds: dict[str, Callable[[], Found]] = {
        "params": of_params,
        "images": of_images,
        "checkpoints": of_checkpoints,
        "networks": lambda: of_networks(drawn, seed),
    }
    found = {kind: run() for kind, run in kinds.items() if kind in only}
    if {"bits", "kills"} & set(only):
        with TemporaryDirectory() as folder:
            job = Job(Path(folder))
            console.print("a job of pico networks is made: about two minutes")
            job.dvc("repro")
            if "bits" in only:
                found["bits"] = of_bits(job, seed)
            if "kills" in only:
                found["kills"] = of_kills(job, _QUICK_KILLS if quick else _KILLS, seed)
    for kind, one in found.items():
        for fault in one.faults[:_SHOWN]:
            console.print(f"{kind}: {fault}", markup=False, highlight=False, soft_wrap=True)
        if len(one.faults) > _SHOWN:
            console.print(f"{kind}: and {len(one.faults) - _SHOWN} more")
    console.print(_table(found))
    print(json.dumps({key: value for one in found.values() for key, value in one.figures.items()}))


def of_params() -> Found:
    """Wrong values of every field of the repository's params.yaml, one at a time."""
    document = parse((ROOT / "params.yaml").read_bytes()).document

    def fault(key: str, value: Any) -> str | None:
        try:
            lines = check(put(document, key, value))[1]
        except Exception as error:  # this is what is looked for
            return f"traceback {type(error).__name__}: {error}"
        if not all(line.isprintable() for line in lines):
            return f"not lines: {lines}"
        named = any(names(line, key) for line in lines)
        return None if named else f"no line names it: {lines[0]}" if lines else "accepted"

    found = [(f"{key} = {value!r:.60}", fault(key, value)) for key, value in track(cases(document), "params")]
    return _of_table("params", found, sum(fault is None for _, fault in found))


def of_images() -> Found:
    """Folders, pictures, archives and class strings."""
    cases = list(images.cases())
    found = [(name, _in_a_folder(images.fault, case)) for name, case in zip(images.names(cases), cases, strict=True)]
    refused = sum(case.classes is None if isinstance(case, images.Case) else case.indices is None for case in cases)
    return _of_table("images", found, refused)


def of_checkpoints() -> Found:
    """Files of weights."""
    cases = list(checkpoints.cases())
    found = [(case.name, _in_a_folder(checkpoints.fault, case)) for case in cases]
    return _of_table("checkpoint", found, sum(case.expectation == "refused" for case in cases))


def of_networks(count: int, seed: int) -> Found:
    """Random networks, on two processes."""
    first = seed * count
    outcomes: Counter[str] = Counter()
    faults = []
    with ProcessPoolExecutor(2, initializer=_single) as pool:
        verdicts = pool.map(_judged, range(first, first + count), chunksize=4)
        for number, verdict in enumerate(track(verdicts, "networks", count), first):
            outcomes[verdict.outcome] += 1
            if verdict.outcome in ("wrong", "traceback"):
                faults.append(f"{number}: {verdict.text}")
    return Found(
        count,
        outcomes["refused"],
        faults,
        {
            "random_networks": count,
            "networks_wrong": outcomes["wrong"],
            "networks_tracebacks": outcomes["traceback"],
            "networks_refused_share": round(outcomes["refused"] / count, 4),
        },
    )


def of_bits(job: Job, seed: int) -> Found:
    """Flipped bits in what a job left."""
    tried, faults = bits.tried(job, _BITS, seed)
    return Found(tried, tried - len(faults), faults, {"bits_flipped": tried, "bits_unnoticed": len(faults)})


def of_kills(job: Job, count: int, seed: int) -> Found:
    """kill -9."""
    tried, faults = kills.tried(job, count, seed)
    return Found(tried, 0, faults, {"kills": tried, "kills_healed": tried - len(faults)})


def _of_table(kind: str, found: list[tuple[str, str | None]], refused: int) -> Found:
    faults = [f"{name}: {fault}" for name, fault in found if fault]
    return Found(len(found), refused, faults, {f"{kind}_cases": len(found), f"{kind}_bad": len(faults)})


def _in_a_folder(fault: Callable[[Any, Path], str | None], case: Any) -> str | None:
    with TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return fault(case, Path(folder).resolve())


def _single() -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")


def _judged(seed: int) -> judge.Verdict:
    return judge.judge(networks.draw(seed))


def _table(found: dict[str, Found]) -> Table:
    table = Table("kind", title="What people bring", title_justify="left")
    for column in ("tried", "right", "refused", "wrong"):
        table.add_column(column, justify="right")
    for kind, one in found.items():
        wrong = len(one.faults)
        table.add_row(kind, str(one.tried), str(max(0, one.tried - one.refused - wrong)), str(one.refused), str(wrong))
    return table


KINDS = ("params", "bits", "kills", "images", "checkpoints", "networks")

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults", description=str(__doc__).splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a few minutes: fewer networks and kills")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--networks", type=int, help="how many random networks")
    parser.add_argument("--only", nargs="+", choices=KINDS, default=KINDS, help="kinds to try")
    given = parser.parse_args()
    with in_one_line("faults"):
        main(given.quick, given.seed, given.networks, given.only)
