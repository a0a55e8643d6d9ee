"""Edges between networks at 224 pixels: seconds and peak memory, and what it costs to fit a stitch to fewer rows.

All with random weights and images: no figure here depends on what the networks know, but for the error, which a trained
zoo would have on another scale.
"""

import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from PIL import Image

from lib.base import usage
from lib.base.memo import Memo
from lib.chain.chain import Chain
from lib.dery.assembly import edges
from lib.dery.assembly.fronts import Fronts
from lib.dery.assembly.material import Bricks
from lib.dery.assembly.stitching import StitchEquations
from lib.images.data import Loader
from lib.images.sources import Images
from lib.params.edges import Edges
from lib.params.zoo import ZooModel
from lib.trace import cost
from lib.zoo.card import Card
from lib.zoo.create import create

NETWORKS = ("mobilenetv3_large_100", "resnet50", "convnext_tiny")
CLASSES = tuple(map(str, range(10)))
FIT, JUDGED, SETS = 64, 64, 3


@dataclass(frozen=True)
class Measured:
    """seconds, peak_gib: of all edges between the networks in a process of their own; row_cap_error: R² on unseen
    images, lost by stitches that are fitted to `rows` rows instead of all, mean.
    """

    seconds: float
    peak_gib: float
    row_cap_error: float
    rows: int


def measure(rows: int = 8192) -> Measured:
    """Runs this module in a process of its own. Raises RuntimeError where that fails."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.scale.edges", str(rows)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"edges: {done.stderr[-500:]}")
    seconds, peak, error = map(float, done.stdout.split()[-3:])
    return Measured(seconds, peak, error, rows)


def zoo(names: tuple[str, ...], fit: int, joining: Edges, sets: int = SETS) -> Bricks:
    """Networks of timm with random weights, cut into equal parts of their depth, and random smooth images; one that is
    named twice is two networks.
    """
    small = np.random.default_rng(0).integers(0, 255, (fit, 14, 14, 3), np.uint8)
    pictures = [Image.fromarray(one).resize((224, 224), Image.Resampling.BICUBIC) for one in small]
    labels = np.arange(fit) % len(CLASSES)
    images = Images(labels, CLASSES, np.zeros(fit, bool), pictures.__getitem__, "random")
    cards, chains, loaders = list[Card](), list[Chain](), list[Loader]()
    for i, timm in enumerate(names):
        name = f"{timm}_{i}"
        entry = ZooModel.model_validate({"timm": timm, "weights": "random"})
        torch.manual_seed(i)
        network, architecture, expected = create(name, entry, len(CLASSES))
        network.eval()
        counted = cost.count(network, expected.shape)
        cards.append(Card(name, architecture, expected, CLASSES, (), "random", "unknown", counted, None))
        chains.append(Chain(name, network, expected.shape).to(torch.device("cpu")))
        loaders.append(Loader(images, np.arange(fit), expected.transform(), joining.batch_size))
    cuts = tuple(tuple(round(i * len(chain) / sets) for i in range(sets + 1)) for chain in chains)
    return Bricks(tuple(cards), chains, cuts, tuple(loaders), CLASSES, joining=joining)


def fitted(rows: int) -> tuple[float, float]:
    """Seconds for all edges, and the error of so few rows."""
    bricks = zoo(NETWORKS, FIT, Edges(kl_images=JUDGED, batch_size=64))
    with TemporaryDirectory() as folder:
        fronts, began = Fronts(bricks, Memo(Path(folder), 2**34)), time.monotonic()
        for card in bricks.cards:
            edges.fit(bricks, card.name, fronts, Memo())
        return time.monotonic() - began, _error(bricks, fronts, rows)


@torch.no_grad()
def _error(bricks: Bricks, fronts: Fronts, rows: int) -> float:
    """Mean over pairs of networks, behind the first cut, of R² on the last quarter of the images: by all rows of the
    others, less by some.
    """
    crossing = [torch.cat([x for (x, *_), _ in fronts.of(m)]) for m in range(len(bricks.cards))]
    known, lost = FIT * 3 // 4, list[float]()
    for m, n in permutations(range(len(crossing)), 2):
        ends = [bricks.chains[i].layout(bricks.cuts[i][1]) for i in (m, n)]
        x, y = crossing[m], crossing[n]
        found = []
        for each in (max(1, rows // known), None):
            equations = StitchEquations(ends[0], ends[1], 1, each)
            equations.add(x[:known], y[:known])
            made, wanted = equations.fitted(bricks.joining.ridge)(x[known:]), y[known:]
            rest = [ends[1].to_map(one).double() for one in (wanted - made, wanted)]
            spread = (rest[1] - rest[1].mean((0, 2, 3), keepdim=True)).square().sum()
            found.append(1 - float(rest[0].square().sum() / spread))
        lost.append(found[1] - found[0])
    return float(np.mean(lost))


if __name__ == "__main__":
    took, error = fitted(int(sys.argv[1]))
    peak = usage.peak() or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(took, peak / 2**30, error)
