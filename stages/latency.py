"""Measures how long the nodes of all networks take on this machine: python -m stages.latency.

Writes data/latency.json, which `assembly` reads where its budget limits latency; so measure where the network will run,
then `dvc repro`. Needs the networks: `dvc repro zoo` first.
"""

import argparse
import platform
import sys
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from lib import latency, timing, zoo
from lib.chain import Chain
from lib.errors import BrickyardError
from lib.params.base import read
from lib.params.run import Run
from lib.params.zoo import Zoo
from lib.progress import track
from stages import prepare


def main(networks: Path, out: Path, batch_size: int, repeats: int) -> None:
    """Measures, writes `out` and prints a table: the sum of the nodes beside the whole network."""
    params = read("run", Run)
    device = prepare(params)
    measured: dict[str, tuple[dict[str, float], float]] = {}
    table = Table("network", "nodes", "sum of nodes and head, ms", "whole network, ms")
    for name in track(sorted(read("zoo", Zoo).models), "latency"):
        model, card = zoo.load(networks / name)
        chain = Chain(name, model.to(device), card.input.shape, declared=card.nodes)
        images = torch.rand(batch_size, *card.input.shape, generator=torch.Generator().manual_seed(0)).to(device)
        found = timing.measure(chain, images, repeats)
        names = [node.name for node in chain.nodes]
        measured[name] = (dict(zip(names, found.nodes, strict=True)), found.head)
        total, whole = sum(found.nodes) + found.head, timing.of_whole(model, images, repeats)
        table.add_row(name, str(len(chain)), f"{total:.3f}", f"{whole:.3f}")
    stitch = timing.measure_stitch(batch_size, device, repeats)
    machine = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    made = {"device": f"{device.type} {machine}", "threads": params.threads, "batch_size": batch_size}
    latency.save(out, latency.Latencies(measured, stitch, {**made, "repeats": repeats}))
    Console().print(table)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m stages.latency", description=str(__doc__).split("\n\n")[0])
    parser.add_argument("--zoo", type=Path, default=Path("artifacts/zoo"), help="trained networks")
    parser.add_argument("--out", type=Path, default=Path("data/latency.json"))
    parser.add_argument("--batch-size", type=int, default=1, help="images a batch")
    parser.add_argument("--repeats", type=int, default=50, help="runs; their median counts")
    arguments = parser.parse_args()
    try:
        main(arguments.zoo, arguments.out, arguments.batch_size, arguments.repeats)
    except BrickyardError as error:
        sys.exit(f"latency: {error}")
