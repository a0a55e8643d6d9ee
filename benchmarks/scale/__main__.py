"""Size: python -m benchmarks.scale --quick [--networks N].

The default job in a fresh clone; a fleet of two workers beside a serial run, and one of them killed; edges
between three networks at 224 pixels; what recording costs beside a bare forward pass; what few rows cost. Where other
work runs beside it, seconds say little.
"""

import argparse
import json
import statistics
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import timm
import torch
from rich.console import Console
from rich.table import Table

from benchmarks.activations import _round
from benchmarks.scale import edges, fleet, simulation
from lib.base import usage
from lib.base.code import ROOT
from lib.chain.chain import Chain

WORKERS = (1, 4, 16, 64)
LOCK = 0.016  # seconds for which DVC keeps a shared folder to itself, for a stage, for each there is: 0.5 with 24
SHAPE = (3, 224, 224)


def main() -> None:
    """Prints tables and, as the last line, the figures as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=str(__doc__).splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one round of each")
    parser.add_argument("--networks", type=int, default=28, help="of the job whose fleet is simulated")
    given = parser.parse_args()
    found = edges.measure()
    share = recorded()
    gain = fleet.speed_up(1 if given.quick else 3, ("serial", "warm", "fleet"))
    lost = fleet.lost_worker()
    seconds, stages = repro()
    table = Table("what", "found")
    table.add_row("default job, from nothing", f"{seconds:.0f} s")
    table.add_row("fleet of 2 beside dvc repro", f"{gain.gain():.2f} times as quick")
    table.add_row("and beside ./run dvc repro, which begins stages warm", f"{gain.gain('warm'):.2f} times as quick")
    table.add_row("what two workers could gain at most, by stages alone", f"{gain.bound:.2f}")
    table.add_row("longest way", ", ".join(gain.path))
    table.add_row("a worker killed", f"{lost.killed}, then {lost.finished}")
    table.add_row("edges, 3 networks, 224 pixels, 64 images", f"{found.seconds:.0f} s, {found.peak_gib:.1f} GiB")
    table.add_row(f"R² lost by {found.rows} rows", f"{found.row_cap_error:.4f}")
    table.add_row("bare forward pass beside recording", f"{share:.3f}")
    Console(width=120).print(table, grown(given.networks, stages))
    figures = {
        "repro_seconds": round(seconds, 1),
        "fleet_speedup_2": round(gain.gain(), 3),
        "fleet_same_hashes": gain.same_hashes,
        "lost_worker_same_hashes": lost.same_hashes,
        "edges_224_seconds": round(found.seconds, 1),
        "edges_peak_gib": round(found.peak_gib, 2),
        "activation_share_of_forward": round(share, 3),
        "row_cap_error": round(found.row_cap_error, 5),
    }
    print(json.dumps(figures))


def recorded(rounds: int = 3) -> float:
    """CPU seconds of a bare forward pass beside those of one whose activations are recorded, the median."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model, images = timm.create_model("resnet18").eval(), torch.rand(1, 32, *SHAPE)
    pairs = [_round(Chain("resnet18", model, SHAPE), model, images, 1) for _ in range(rounds + 1)][1:]
    torch.set_num_threads(threads)
    return statistics.median(bare / recorded for bare, recorded in pairs)


def repro() -> tuple[float, dict[str, float]]:
    """Seconds of `./run dvc repro` in a fresh clone of what is committed here, whose environment is there already, and
    of each of its stages.
    """
    with TemporaryDirectory() as folder:
        clone = Path(folder, "clone")
        subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
        (clone / ".venv").symlink_to(ROOT / ".venv")
        began = time.monotonic()
        done = subprocess.run(["./run", "dvc", "repro"], cwd=clone, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"dvc repro: {done.stderr[-500:]}")
        return time.monotonic() - began, usage.seconds(clone / ".scratch" / "usage")


def grown(networks: int, known: Mapping[str, float]) -> Table:
    """What a job with so many networks would take on more and more workers, from what stages of a smaller one took."""
    stages = fleet.stages_of(networks)
    took = simulation.grown(stages, known, networks / max(1, sum(name.startswith("zoo@") for name in known)))
    title = f"{networks} networks of the default job's kind, simulated"
    table = Table("workers", "one folder, s", "time used", "a folder each, s", "time used", title=title)
    shared, own = (simulation.scaling(stages, took, WORKERS, lock) for lock in (LOCK * len(stages), 0.0))
    for one, other in zip(shared, own, strict=True):
        cells = (f"{one.seconds:.0f}", f"{one.efficiency:.2f}", f"{other.seconds:.0f}", f"{other.efficiency:.2f}")
        table.add_row(str(one.workers), *cells)
    path = simulation.longest(stages, took)
    table.caption = f"{len(stages)} stages; longest way: " + ", ".join(f"{name} {took[name]:.0f} s" for name in path)
    return table


if __name__ == "__main__":
    main()
