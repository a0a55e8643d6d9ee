"""Measures how long the nodes of all networks take on this machine: python -m commands.latency.

Writes data/latency.json for a budget of latency: measure where the network will run, after `dvc repro zoo`, or after
`dvc repro bricks` where blocks may be narrow. With folders (artifacts/finetune/r1, artifacts/lego/network, …), prints
how long these networks take and writes nothing.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from torch import nn

from commands import in_one_line, prepare
from lib.base.errors import BrickyardError
from lib.base.progress import track
from lib.chain import latency, timing
from lib.chain.latency import Measured
from lib.dery.assembly import forms
from lib.network import files
from lib.network.load import load
from lib.params.base import read
from lib.params.entries import entry
from lib.params.run import Run
from lib.params.zoo import Zoo
from lib.zoo.card import Card


def main(
    networks: Sequence[Path], zoo: Path, bricks: Path, out: Path, batch_size: int, repeats: int, trust: bool = False
) -> None:
    """Measures and prints a table of the networks in these folders, if there are any, else of all below `zoo`, and of
    those with narrow blocks below `bricks`.

    out: where the latter's nodes are written; trust: to run whatever code the folders' networks name.
    """
    if min(batch_size, repeats) < 1:
        raise BrickyardError(f"--batch-size {batch_size}, --repeats {repeats}: should be 1 or more")
    params, watch = read("run", Run), timing.Stopwatch(repeats)
    device = prepare(params)
    if networks:
        table = _whole(networks, device, batch_size, watch, trust)
    else:
        table, measured, narrow = _nodes(zoo, bricks, device, batch_size, watch)
        stitch = timing.measure_stitch(batch_size, device, watch)
        made = {"device": timing.name(device), "threads": params.threads, "batch_size": batch_size}
        made |= {"repeats": repeats, "undisturbed": watch.undisturbed}
        latency.save(out, latency.Latencies(measured, stitch, made, narrow))
    Console().print(table)
    if not watch.undisturbed:
        lost = f"{100 * (1 - watch.share):.0f} % of the time"
        print(f"latency: other processes kept this one waiting for {lost}; measure on an idle machine", file=sys.stderr)


def _whole(
    folders: Sequence[Path], device: torch.device, batch_size: int, watch: timing.Stopwatch, trust: bool
) -> Table:
    table = Table("network", "kind", "whole network, ms")
    for folder in track(list(folders), "latency"):
        network, recipe = load(folder, trust)
        table.add_row(
            escape(str(folder)), recipe.kind, f"{timing.whole(network.to(device), recipe.input, batch_size, watch):.3f}"
        )
    return table


def _nodes(
    zoo: Path, bricks: Path, device: torch.device, batch_size: int, watch: timing.Stopwatch
) -> tuple[Table, dict[str, Measured], dict[str, dict[float, Measured]]]:
    """The sum of the nodes of every network that params.yaml names beside the whole network; its nodes, and by width
    those of it with narrow blocks.
    """
    table = Table("network", "nodes", "sum of nodes and head, ms", "whole network, ms")
    measured, narrow = dict[str, Measured](), dict[str, dict[float, Measured]]()

    def measure(title: str, network: nn.Module, card: Card) -> Measured:
        found = timing.of_network(network.to(device), card, batch_size, watch)
        parts = sum(found.parts.nodes.values()) + found.parts.head
        table.add_row(title, str(len(found.parts.nodes)), f"{parts:.3f}", f"{found.whole:.3f}")
        return found.parts

    for name in track(sorted(read("zoo", Zoo).models), "latency"):
        network, card = files.load_as(Card, zoo / name, entry(name))
        measured[name] = measure(name, network, card)
        for width, smaller in forms.narrow_networks(bricks / name, entry(name)):
            narrow.setdefault(name, {})[width] = measure(f"{name} at {width:g}", smaller, card)
    return table, measured, narrow


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m commands.latency", description=str(__doc__).split("\n\n")[0])
    parser.add_argument("networks", type=Path, nargs="*", help="folders with networks; none: those of params.yaml")
    parser.add_argument("--zoo", type=Path, default=Path("artifacts/zoo"), help="trained networks")
    parser.add_argument("--bricks", type=Path, default=Path("artifacts/bricks"), help="their narrow blocks, if any")
    parser.add_argument("--out", type=Path, default=Path("data/latency.json"))
    parser.add_argument("--batch-size", type=int, default=1, help="images a batch")
    parser.add_argument("--repeats", type=int, default=50, help="runs; their median counts")
    parser.add_argument(
        "--trust", action="store_true", help="run the code that the folders' networks name; else refused"
    )
    given = parser.parse_args()
    with in_one_line("latency"):
        main(**vars(given))
