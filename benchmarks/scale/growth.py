"""What grows how: python -m benchmarks.scale.growth.

CPU seconds of one thread of the pieces of work that DeRy's stages consist of, as one size becomes 2, 4 and 8 times what
it was and all others stay: networks, their nodes, images, channels, sets (K) and the pool. The networks have random
weights, the rest random numbers: what they say changes no time. `exponent` is the slope of log seconds over log size,
from half to all of the largest size: below that, what every call costs has its part.
"""

import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise, product
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from benchmarks import assembly, partition
from benchmarks.scale.edges import zoo
from lib.base.memo import Memo
from lib.base.progress import track
from lib.chain.chain import Chain
from lib.chain.layout import Layout
from lib.dery import recording
from lib.dery.assembly import edges
from lib.dery.assembly.fronts import Fronts
from lib.dery.assembly.refit import refit_run
from lib.dery.assembly.stitching import StitchEquations
from lib.dery.assembly.workshop import Workshop
from lib.dery.partition.solve import solve
from lib.dery.paths import search
from lib.dery.similarity.layers import Network
from lib.dery.similarity.matrix import matrix
from lib.params.edges import Edges

TIMES = (1, 2, 4, 8)
SMALL = "mobilenetv3_small_050"  # of timm, 224 pixels
JOINING = Edges(kl_images=32, batch_size=32)
Work = Callable[[], object]


@dataclass(frozen=True)
class Row:
    """A piece of work of a stage. of: what grows; sizes: how many of it; work: prepares so many, and returns what is
    timed; promised: the exponent of the algorithm, at most.
    """

    stage: str
    of: str
    sizes: tuple[int, ...]
    work: Callable[[int], Work]
    promised: str


def rows() -> Iterator[Row]:
    """All that is measured."""

    def sizes(least: int) -> tuple[int, ...]:
        return tuple(least * times for times in TIMES)

    yield Row("activations", "images", sizes(64), lambda n: _recording(4, n), "1")
    yield Row("activations", "nodes", sizes(4), lambda depth: _recording(depth, 64), "1")
    yield Row("similarity", "networks", sizes(4), lambda n: _similarity(networks=n), "2")
    yield Row("similarity", "nodes", sizes(9), lambda nodes: _similarity(nodes=nodes), "2")
    yield Row("similarity", "images", sizes(1024), lambda n: _similarity(images=n), "1")
    yield Row("similarity", "channels", sizes(32), lambda channels: _similarity(channels=channels), "2")
    yield Row("partition", "networks", sizes(7), lambda n: _partition(networks=n), "2")
    yield Row("partition", "nodes", sizes(1), lambda times: _partition(longer=times), "2")
    yield Row("partition", "sets", sizes(2), lambda k: _partition(sets=k), "1")
    yield Row("edges of one network", "networks", sizes(1), lambda n: _edges(networks=n + 1), "1")
    yield Row("edges of one network", "images", sizes(32), lambda n: _edges(images=n), "1")
    yield Row("edges of one network", "sets", (2, 3, 5, 9), lambda k: _edges(sets=k), "1")
    yield Row("a stitch", "channels", sizes(64), _stitch, "2 to 3")
    yield Row("a refit", "layers", sizes(4), _refit, "1")
    yield Row("assembly: paths", "networks", sizes(8), lambda n: _paths(networks=n), "2")
    yield Row("assembly: paths", "sets", sizes(4), lambda k: _paths(sets=k), "1")
    yield Row("assembly: paths", "pool", sizes(10), lambda pool: _paths(pool=pool), "1")
    yield Row("assembly: candidates", "pool", sizes(3), _candidates, "1")


def main() -> None:
    """Prints the table and, as the last line, the exponents as JSON."""
    torch.set_num_threads(1)
    table = Table("stage", "of", "sizes", "CPU s", "exponent", "promised", title="What grows how")
    found = {}
    for row in track(list(rows()), "growth"):
        seconds = [_seconds(row.work(size)) for size in row.sizes]
        exponent = slope(row.sizes, seconds)
        found[f"{row.stage}, {row.of}"] = round(exponent, 2)
        listed = [", ".join(map(str, row.sizes)), ", ".join(f"{s:.3g}" for s in seconds)]
        table.add_row(row.stage, row.of, *listed, f"{exponent:.2f}", row.promised)
    Console(width=130).print(table)
    print(json.dumps(found))


def slope(sizes: tuple[int, ...], seconds: list[float]) -> float:
    """Of log seconds over log size, between the last two."""
    (small, large), (quick, slow) = sizes[-2:], seconds[-2:]
    return math.log(slow / quick) / math.log(large / small)


def _seconds(work: Work, repeats: int = 3, enough: float = 2.0) -> float:
    """CPU seconds of a piece of work, the least of a few times, or of one that takes long."""
    best, began = math.inf, time.process_time()
    for _ in range(repeats):
        start = time.process_time()
        work()
        best = min(best, time.process_time() - start)
        if time.process_time() - began > enough:
            break
    return best


def _deep(layers: int, channels: int = 32) -> nn.Sequential:
    """Convolutions with BatchNorm and ReLU, all alike."""
    found: list[nn.Module] = [nn.Conv2d(3, channels, 3, 2, 1)]
    for _ in range(layers):
        found += [nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU()]
    return nn.Sequential(*found, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10)).eval()


def _recording(depth: int, images: int) -> Work:
    chain = Chain("deep", _deep(depth), (3, 32, 32))
    x, y = torch.randn(32, 3, 32, 32), torch.zeros(32, dtype=torch.int64)

    def work() -> None:
        with TemporaryDirectory() as folder:
            recording.record(Path(folder), chain, [(x, y)] * (images // 32), np.arange(images))

    return work


def _similarity(networks: int = 4, nodes: int = 18, images: int = 512, channels: int = 64) -> Work:
    generator = torch.Generator().manual_seed(0)
    names = tuple(map(str, range(nodes)))
    own = [
        Network(f"m{m}", f"m{m}", names, tuple(torch.randn(images, channels, generator=generator) for _ in names))
        for m in range(networks)
    ]
    return lambda: matrix(own, partition.CKA, partition.MEMORY)


def _partition(networks: int = 14, longer: int = 1, sets: int = 4) -> Work:
    problem = partition.walks(networks, (16 * longer, 24 * longer), sets, seed=0)
    return lambda: solve(problem, bound="none", random_partitions=1)


def _edges(networks: int = 3, images: int = 64, sets: int = 3) -> Work:
    bricks = zoo((SMALL,) * networks, images, JOINING, sets)

    def work() -> None:
        with TemporaryDirectory() as folder:
            edges.fit(bricks, bricks.cards[0].name, Fronts(bricks, Memo(Path(folder), 2**34)), Memo())

    return work


def _stitch(channels: int) -> Work:
    layout = Layout("nchw", channels, 7, 7)
    x, y = torch.randn(2, 64, channels, 7, 7).unbind()

    def work() -> None:
        equations = StitchEquations(layout, layout, 1)
        equations.add(x, y)
        equations.fitted(1e-4)

    return work


def _refit(layers: int) -> Work:
    chain = Chain("deep", _deep(layers), (3, 32, 32))
    x = torch.randn(64, 32, 16, 16)
    return lambda: refit_run(chain, 1, len(chain) - 2, [(x, x + 0.1 * torch.randn_like(x))], (1, len(x)), 0.1)


def _paths(networks: int = 16, sets: int = 4, pool: int = 50) -> Work:
    problem = assembly.problem(assembly.synthetic(networks, sets, 0), assembly.LIMITS)
    return lambda: search.best(problem, pool)


def _candidates(pool: int) -> Work:
    """Of four networks, three blocks each, all of which have two neighbours of different networks."""
    bricks = zoo((SMALL,) * 4, 64, JOINING, 3)
    apart = [one for one in product(range(4), repeat=3) if all(i != j for i, j in pairwise(one))]
    picks = [bricks.pick(apart[i]) for i in np.random.default_rng(0).permutation(len(apart))[:pool]]

    def work() -> None:
        shop = Workshop(bricks, 2**31)
        for pick in picks:
            shop.reassemble(pick, "layers_and_head")

    return work


if __name__ == "__main__":
    main()
