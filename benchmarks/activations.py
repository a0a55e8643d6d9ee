"""Throughput of recording all of a network's activations, beside its bare forward pass.

python -m benchmarks.activations [--rounds N] [--batches N] [--batch-size N] [--grid S] [--quick]

Recorded: Chain.walk, pooling, the check that all is finite, writing and the checksum (`lib.dery.recording.record`);
bare: model(x). Both on the same images, in alternating rounds; CPU seconds of one thread. The ratio is the median over
rounds of bare / recorded: 1 means that recording costs nothing. Networks: three of timm's at 224 pixels, and those of
params.yaml, all with random weights.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from lib.base.progress import track
from lib.chain.chain import Chain
from lib.dery import recording
from lib.params.base import read
from lib.params.zoo import Zoo
from lib.zoo.create import create

LARGE = ("resnet18", "vit_tiny_patch16_224", "convnext_atto")


def main() -> None:
    """Prints a table and, as the last line, the ratios as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.activations", description=str(__doc__).splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--batches", type=int, default=32, help="a round; a sixteenth at 224 pixels")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--grid", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="three rounds, networks of params.yaml only")
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    rounds = 3 if given.quick else given.rounds
    networks = _networks(large=not given.quick)

    table = Table("network", "pixels", "images", "nodes", "bare ms/image", "recorded", "ratio", "lowest", "highest")
    ratios = {}
    for name in track(sorted(networks), "networks"):
        model, shape = networks[name]
        batches = max(1, given.batches // 16) if shape[1] > 100 else given.batches
        images = torch.rand(batches, given.batch_size, *shape)
        chain = Chain(name, model, shape)
        pairs = [_round(chain, model, images, given.grid) for _ in range(rounds + 1)][1:]
        found = [bare / recorded for bare, recorded in pairs]
        ratios[name] = statistics.median(found)
        best = [1000 * min(seconds) / (batches * given.batch_size) for seconds in zip(*pairs, strict=True)]
        table.add_row(
            *(
                name,
                str(shape[1]),
                str(batches * given.batch_size),
                str(len(chain)),
                f"{best[0]:.3f}",
                f"{best[1]:.3f}",
            ),
            *(f"{ratios[name]:.3f}", f"{min(found):.3f}", f"{max(found):.3f}"),
        )
    Console(width=120).print(table)
    lowest = min(ratios, key=lambda name: ratios[name])
    print(json.dumps({"ratio_min": ratios[lowest], "lowest": lowest, "batch_size": given.batch_size, "ratios": ratios}))


def _networks(large: bool) -> dict[str, tuple[nn.Module, tuple[int, ...]]]:
    """Random weights, eval mode, and the shape of an image."""
    import timm

    torch.manual_seed(0)
    networks: dict[str, tuple[nn.Module, tuple[int, ...]]] = {}
    for name, entry in read("zoo", Zoo).models.items():
        model, _, expected = create(name, entry.model_copy(update={"weights": "train"}), 10)
        networks[name] = (model, expected.shape)
    if large:
        networks |= {name: (timm.create_model(name).eval(), (3, 224, 224)) for name in LARGE}
    return networks


def _round(chain: Chain, model: nn.Module, images: torch.Tensor, grid: int) -> tuple[float, float]:
    """CPU seconds, bare and recorded."""
    started = time.process_time()
    with torch.no_grad():
        for x in images:
            model(x)
    bare = time.process_time() - started
    ids = np.arange(images.shape[0] * images.shape[1])
    with tempfile.TemporaryDirectory() as folder:
        started = time.process_time()
        recording.record(Path(folder), chain, ((x, x[:0]) for x in images), ids, grid)
        return bare, time.process_time() - started


if __name__ == "__main__":
    main()
