"""Stage `edges`: every stitch that ends in one network, fitted once, and what that network is worth with it."""

from pathlib import Path

from lib.base import artifacts
from lib.base.memo import Memo
from lib.dery.assembly import edges
from lib.dery.assembly.fronts import Fronts
from lib.dery.assembly.material import open_bricks
from lib.dery.partition.sets import Partition
from lib.images import data
from lib.params.base import read
from lib.params.edges import Edges
from lib.params.entries import entries
from lib.params.run import Run
from stages import SCRATCH, prepare, run

FRONTS, PAIRS = 2**32, 2**30  # bytes that are kept for other networks' edges, and for a grown zoo


def main(dataset: Path, zoo: Path, partition: Path, model: str, out: Path, metrics: Path) -> None:
    """Writes edges.json and edges.safetensors; R² and the replace-one KL of each edge to `metrics`."""
    seed, device = read("run", Run).seed, prepare(read("run", Run))
    images, cuts = data.load(dataset, SCRATCH, device), Partition.read(partition).cuts
    names = sorted(cuts)  # of the zoo, without whose section dvc.lock stays small however many networks there are
    artifacts.keep_only(zoo, names)
    bricks = open_bricks(zoo, names, cuts, images, read("edges", Edges), seed, trust=entries())
    fronts, pairs = Memo(SCRATCH / "fronts", FRONTS), Memo(SCRATCH / "edges", PAIRS)
    found = edges.fit(bricks, model, Fronts(bricks, fronts), pairs)
    for memo in (fronts, pairs):
        memo.prune()
    edges.save(out, model, found)
    artifacts.write_metrics(metrics, edges.figures(found))


if __name__ == "__main__":
    run(main)
