"""What one budget after another buys, measured: python -m commands.sweep, after `dvc repro edges bricks`.

For limits on parameters, MACs, memory and, where it has been measured, latency, a log-spaced series of each, the chain
with the best predicted score is found anew from the edges on disk, and the different ones are put together; trees and
whole networks stand beside. The other limits of assembly.budget hold. Half of the validation images choose treatments,
trees and whole networks, the other half measures. Prints a table a kind of cost; writes its rows, for `dvc plots`, and
a picture to OUT. What has been fitted is kept in .scratch: a second sweep is quick.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from commands import SCRATCH, in_one_line, prepare, said
from lib.base import artifacts, environment
from lib.base.errors import BrickyardError
from lib.base.memo import Memo
from lib.dery.assembly import built, forms, gains, prices, sweeping
from lib.dery.assembly import edges as lib_edges
from lib.dery.assembly.material import open_bricks
from lib.dery.assembly.widened import widened
from lib.dery.assembly.workshop import Workshop
from lib.dery.partition.sets import Partition
from lib.dery.paths.tables import KINDS, Kind
from lib.images import data
from lib.params.assembly import Assembly
from lib.params.base import read
from lib.params.edges import Edges
from lib.params.entries import entries
from lib.params.run import Run
from lib.params.zoo import Zoo
from lib.report.frontier import scaled, swept

DATASET, ZOO, SIMILARITY = Path("artifacts/dataset"), Path("artifacts/zoo"), Path("artifacts/similarity")
PARTITION, EDGES = Path("artifacts/partition/partition.json"), Path("artifacts/edges")
BRICKS, LATENCY = Path("artifacts/bricks"), Path("data/latency.json")


def main(kinds: Sequence[Kind] | None, count: int, out: Path) -> None:
    """Prints the tables and writes KIND.json and KIND.svg for each kind of cost.

    kinds: None for all that are known. Raises BrickyardError, before anything is fitted, where no candidate meets the
    other limits, latency is asked for and not measured, or artifacts are older than what they were made of.
    """
    if count < 1:
        raise BrickyardError(f"--count {count}: should be 1 or more")
    params, run_params, names = read("assembly", Assembly), read("run", Run), sorted(read("zoo", Zoo).models)
    prepare(run_params)
    images, sets = data.load(DATASET, SCRATCH), Partition.read(PARTITION)
    if sorted(sets.networks) != names:
        raise BrickyardError(f"{PARTITION} is of {', '.join(sets.networks)}, zoo.models has others; dvc repro edges")
    _check_made()
    bricks = open_bricks(ZOO, names, sets.cuts, images, read("edges", Edges), run_params.seed, params, entries())
    bricks = forms.load(replace(bricks, edges=lib_edges.load(bricks, EDGES)), BRICKS, entries())
    problem, lenders = prices.assembly_problem(bricks, params, LATENCY), prices.lenders(bricks, params)
    problem = replace(problem, scores=gains.scores(bricks, params, sets, SIMILARITY))
    problem = widened(problem, bricks, params, LATENCY)
    known: list[Kind] = [kind for kind in KINDS if kind in problem.costs]
    if kinds and not set(kinds) <= set(known):
        raise BrickyardError("--kinds latency: nothing has been measured; first ./run python -m commands.latency")
    wanted: list[Kind] = [kind for kind in known if not kinds or kind in kinds]
    series: dict[Kind, list[float]] = {
        kind: sweeping.limits(problem, kind, count, lenders, params.tails) for kind in wanted
    }
    measures, kept = built.measures(images, params, run_params.seed), Memo(SCRATCH / "prefixes", 2**32)
    workshop = Workshop(bricks, environment.memory() // 4, kept)
    steps = sweeping.swept(workshop, problem, lenders, series, params, measures)
    for kind in wanted:
        rows = sweeping.rows([step for step in steps if step.kind == kind], measures)
        size, unit = scaled(kind, max(row["cost"] for row in rows))
        artifacts.write_metrics(out / f"{kind}.json", rows)
        artifacts.write_text(out / f"{kind}.svg", swept(rows, size, unit, params.rank_on))
        Console().print(_table(rows, size, unit))
    images_of = f"{len(measures.picking.labels)} {params.rank_on} images that chose nothing"
    print(f"accuracy on {images_of}; *: nothing here is cheaper and as good")
    kept.prune()


def _check_made() -> None:
    """Raises BrickyardError where partition, edges or bricks are not what params, networks and code would make."""
    stale = sorted(json.loads(said("status", "--json", "code", "partition", "edges", "bricks")))
    if stale:
        raise BrickyardError(f"{', '.join(stale)}: not made of what is here now; first ./run dvc repro edges bricks")


def _table(rows: Sequence[Mapping[str, Any]], size: float, unit: str) -> Table:
    """Of one kind of cost, in units of `size`."""
    table = Table("limit", "form", "made of", "cost", "score", "accuracy, %", title=unit, title_justify="left")
    before = None
    for row in rows:
        limit, cost = (f"{row[key] / size:.4g}" for key in ("limit", "cost"))
        score = f"{row['score']:.3f}" if row["form"] == "chain" else ""
        accuracy = f"{row['accuracy']:.1f}{' *' if row['on_front'] else ''}"
        table.add_row("" if row["limit"] == before else limit, row["form"], row["path"], cost, score, accuracy)
        before = row["limit"]
    return table


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m commands.sweep", description=str(__doc__).split("\n\n")[0])
    parser.add_argument("--kinds", nargs="+", choices=KINDS, help="kinds of cost; all that are known by default")
    parser.add_argument("--count", type=int, default=8, help="limits of each kind")
    parser.add_argument("--out", type=Path, default=Path("plots/sweep"), help="a folder")
    given = parser.parse_args()
    with in_one_line("sweep"):
        main(**vars(given))
