"""Measures how long the nodes of all networks take on this machine: python -m stages.latency.

Writes data/latency.json for a budget of latency: measure where the network will run, after `dvc repro zoo`.
"""

import argparse
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from lib.base.errors import BrickyardError
from lib.base.progress import track
from lib.chain import latency, timing
from lib.params.base import read
from lib.params.entries import entry
from lib.params.run import Run
from lib.params.zoo import Zoo
from stages import in_one_line, prepare


def main(zoo: Path, out: Path, batch_size: int, repeats: int) -> None:
    """Measures, writes `out` and prints a table: the sum of the nodes beside the whole network."""
    if min(batch_size, repeats) < 1:
        raise BrickyardError(f"--batch-size {batch_size}, --repeats {repeats}: should be 1 or more")
    params, names, watch = read("run", Run), sorted(read("zoo", Zoo).models), timing.Stopwatch(repeats)
    device = prepare(params)
    found = {
        name: timing.of_network(zoo / name, batch_size, device, watch, entry(name)) for name in track(names, "latency")
    }
    measured = {name: of.parts for name, of in found.items()}
    stitch = timing.measure_stitch(batch_size, device, watch)
    made = {"device": timing.name(device), "threads": params.threads, "batch_size": batch_size}
    made |= {"repeats": repeats, "undisturbed": watch.undisturbed}
    latency.save(out, latency.Latencies(measured, stitch, made))
    table = Table("network", "nodes", "sum of nodes and head, ms", "whole network, ms")
    for name, of in found.items():
        parts = sum(of.parts.nodes.values()) + of.parts.head
        table.add_row(name, str(len(of.parts.nodes)), f"{parts:.3f}", f"{of.whole:.3f}")
    Console().print(table)
    if not watch.undisturbed:
        lost = f"{100 * (1 - watch.share):.0f} % of the time"
        print(f"latency: other processes kept this one waiting for {lost}; measure on an idle machine", file=sys.stderr)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m stages.latency", description=str(__doc__).split("\n\n")[0])
    parser.add_argument("--zoo", type=Path, default=Path("artifacts/zoo"), help="trained networks")
    parser.add_argument("--out", type=Path, default=Path("data/latency.json"))
    parser.add_argument("--batch-size", type=int, default=1, help="images a batch")
    parser.add_argument("--repeats", type=int, default=50, help="runs; their median counts")
    given = parser.parse_args()
    with in_one_line("latency"):
        main(**vars(given))
