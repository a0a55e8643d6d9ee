"""What `dvc repro` would run and what that takes, before anything runs: python -m commands.plan [TARGET …].

Of each stage: what it works on, how long it takes, and how much memory and disk; then all together. Stages that have
run here are told by that, in proportion to their work; of others a formula tells, to a factor of two or three, with
what this machine does in a second. With --check, exit code 1 where something does not fit.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ruamel.yaml import YAML

from commands import in_one_line, names
from lib.base.pipeline import names as pipeline
from lib.base.progress import spoken

if TYPE_CHECKING:
    from commands.fleet.stages import Stage
    from commands.plan.estimates import Estimate

LOCK, CODE = Path("dvc.lock"), "artifacts/code/code.yaml"
BETWEEN, ALONE = 0.7, 2.5  # seconds that DVC itself takes for a stage of many, and for one that it runs alone


@dataclass(frozen=True)
class Totals:
    """Of all stages that will run.

    serial: seconds, one after another.
    critical: seconds of the longest way through the DAG, below which no fleet comes.
    memory, memory_free: bytes, of the stage that needs most.
    disk, disk_free: bytes, artifacts, DVC's copy of them, and temporary files.
    unknown: stages of which nobody knows how long they take.
    """

    serial: float
    critical: float
    memory: float
    memory_free: float
    disk: float
    disk_free: float
    unknown: int


def main(targets: Sequence[str], as_json: bool) -> bool:
    """Prints the plan; returns whether all fits."""
    from commands.fleet.stages import to_run
    from commands.plan import imported, needs

    names.main(Path("params.yaml"))
    with ThreadPoolExecutor(1) as beside:  # DVC is asked while this process imports
        asked = beside.submit(to_run, targets, _recoded)
        imported()
        order = {name: place for place, name in enumerate(pipeline())}
        stages = sorted(asked.result(), key=lambda stage: order.get(stage.name, 0))
    found = needs(stage.name for stage in stages) if stages else {}
    totals = _totals(stages, found)
    misfits = _misfits(found, totals)
    if as_json:
        told = [{"name": name, **asdict(one)} for name, one in found.items()]
        print(json.dumps({"stages": told, **asdict(totals), "misfits": misfits}, indent=1))
    elif not stages:
        print("nothing to do")
    else:
        _print(found, totals, misfits)
    return not misfits


def _recoded() -> set[str]:
    """Stages whose code is another than that with which they last ran."""
    from stages.code import digests

    now, lock = digests(), YAML(typ="safe", pure=True).load(LOCK) if LOCK.exists() else {}
    then = {name: (own.get("params") or {}).get(CODE) or {} for name, own in lock.get("stages", {}).items()}
    return {name for name in pipeline() if then.get(name) != {(kind := name.partition("@")[0]): now.get(kind)}}


def _totals(stages: "Sequence[Stage]", found: "Mapping[str, Estimate]") -> Totals:
    from commands.fleet.stages import weights
    from commands.plan.machine import disk_free, memory_free

    seconds = {name: one.seconds for name, one in found.items() if one.seconds is not None}
    apart = {name: own + ALONE for name, own in seconds.items()}
    return Totals(
        serial=sum(seconds.values()) + BETWEEN * len(seconds),
        critical=max(weights(stages, apart).values(), default=0.0),
        memory=max((one.memory or 0 for one in found.values()), default=0),
        memory_free=memory_free(),
        disk=sum(one.disk or 0 for one in found.values()),
        disk_free=disk_free(Path()),
        unknown=len(found) - len(seconds),
    )


def _misfits(found: "Mapping[str, Estimate]", totals: Totals) -> list[str]:
    """A line for each stage that needs more memory than there is, and one where the disk is too small for all."""
    lines = [
        f"{name}: needs {_bytes(one.memory)} of memory, {_bytes(totals.memory_free)} are free"
        for name, one in found.items()
        if one.memory is not None and one.memory > totals.memory_free
    ]
    if totals.disk > totals.disk_free:
        lines.append(f"disk: needs {_bytes(totals.disk)}, {_bytes(totals.disk_free)} are free")
    return lines


def _print(found: "Mapping[str, Estimate]", totals: Totals, misfits: Sequence[str]) -> None:
    """A table, then the totals, then what does not fit."""
    head = ("stage", "on", "time", "memory", "artifacts", "temporary")
    rows = [
        (
            name,
            one.about,
            "?" if one.seconds is None else f"{'' if one.before else '~'}{spoken(one.seconds)}",
            *("?" if size is None else _bytes(size) for size in (one.memory, one.kept, one.scratch)),
        )
        for name, one in found.items()
    ]
    if sys.stdout.isatty():
        from rich.box import SIMPLE_HEAD
        from rich.console import Console
        from rich.table import Table

        table = Table(*head, box=SIMPLE_HEAD, pad_edge=False)
        table.columns[0].no_wrap, table.columns[0].min_width = True, max(len(name) for name in found)
        for column in table.columns[2:]:
            column.justify, column.no_wrap = "right", True
        for row in rows:
            table.add_row(*row)
        Console(markup=False, highlight=False).print(table)
    else:
        widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
        for row in (head, *rows):
            print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    guessed = sum(not one.before for one in found.values()) - totals.unknown
    print(f"{len(found)} stages: about {spoken(totals.serial)} one after another, {spoken(totals.critical)} at best")
    print(f"memory: about {_bytes(totals.memory)} at the peak, {_bytes(totals.memory_free)} are free")
    print(f"disk: about {_bytes(totals.disk)} with DVC's copies, {_bytes(totals.disk_free)} are free")
    if guessed:
        print(f"~ by formula, for what has not run here yet ({guessed} stages): right to a factor of 2 or 3")
    if totals.unknown:
        print(f"? not known, and not counted ({totals.unknown} stages): ./run dvc repro dataset tells the images")
    print("\n".join(misfits), end="\n" if misfits else "")


def _bytes(count: float) -> str:
    """So many bytes in words: 3.1 GiB."""
    for unit, size in (("GiB", 2**30), ("MiB", 2**20)):
        if count >= 0.1 * size:
            return f"{count / size:.{0 if count >= 10 * size else 1}f} {unit}"
    return f"{count / 2**10:.0f} KiB"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m commands.plan", description=str(__doc__).split("\n\n")[0])
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="stages, as of dvc repro; all by default")
    parser.add_argument("--json", action="store_true", help="for programs: seconds and bytes")
    parser.add_argument("--check", action="store_true", help="exit code 1 where something does not fit")
    given = parser.parse_args()
    with in_one_line("plan"):
        fits = main(given.targets, given.json)
    sys.exit(given.check and not fits)
