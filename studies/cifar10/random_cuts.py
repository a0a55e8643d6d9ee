"""Stage `random_cuts`: what table 4 needs of the ResNets cut at random: a picked hybrid, and hybrids at random."""

from pathlib import Path
from typing import Any

import numpy as np

from lib.base import artifacts, resume
from lib.dery.forms import Nodes
from lib.dery.partition.cover import PartitionProblem
from lib.dery.partition.space import CutSpace
from lib.images import data
from lib.params.assembly import Assembly
from lib.params.base import read
from lib.params.edges import Edges
from lib.params.partition import Partition
from lib.params.run import Run
from stages import SCRATCH, prepare, run
from studies.cifar10.bootstrap import pick
from studies.cifar10.cut import priced
from studies.cifar10.group import SETTINGS, START, Group, accuracy
from studies.cifar10.params import Study
from studies.cifar10.tree import joined, judged, opened, reassembled
from studies.cifar10.tuned import read_protocols, tuned


def main(number: int, dataset: Path, zoo: Path, cut: Path, metrics: Path) -> None:
    """Writes test accuracies without training and frozen, and MACs of the networks that were tried, to `metrics`.

    number: of the partition, of those drawn; cut: folder of the group, with the similarity of its nodes.
    """
    params, seed = read("assembly", Assembly), read("run", Run).seed
    study, protocols = read("study", Study), read_protocols()
    prepare(read("run", Run))
    images, whole = data.load(dataset, SCRATCH), Group.load(cut)
    cuts = random_cuts(whole, cut, max(study.random_cuts) + 1, seed)[number]
    bricks = joined(opened(zoo, whole.names, cuts, images, read("edges", Edges), params, seed))
    worth = priced(bricks, params, cut)
    pool = sorted(whole.hybrids, key=lambda path: (-worth[path].stitch_r2, path))[: params.pool]
    drawn = np.random.default_rng(seed).permutation(len(whole.hybrids))[: study.random_picks]
    at_random = [whole.hybrids[i] for i in drawn]
    networks = reassembled(bricks, [*dict.fromkeys([*pool, *at_random])], SETTINGS[START].treatment)
    few = data.stratified_sample(images.images, images.train, study.rank_images, seed)
    again = accuracy(judged(bricks, {path: networks[path] for path in pool}, images, few))
    chosen = pick(pool, {path: own.stitch_r2 for path, own in worth.items()}, again, params.pool)
    wanted = {path: networks[path] for path in dict.fromkeys((chosen, *at_random))}
    untrained = accuracy(judged(bricks, wanted, images, images.test))
    frozen = {}
    with resume.scratch(SCRATCH / "random_cuts" / str(number)) as folder:
        for path, (model, recipe) in wanted.items():
            ((_, right),) = tuned(model, recipe, images, {"frozen": protocols["frozen"]}, seed, folder)
            frozen[path] = 100 * float(right.mean())
    said: dict[str, Any] = {"cuts": dict(zip(whole.names, map(list, cuts), strict=True))}
    for name, paths in {"predictor": [chosen], "random": at_random}.items():
        said[name] = [[untrained[path], frozen[path]] for path in paths]
    artifacts.write_metrics(metrics, {**said, "macs": sum(worth[path].macs for path in pool)})


def random_cuts(group: Group, similarity: Path, count: int, seed: int) -> list[tuple[tuple[int, ...], ...]]:
    """The same networks, cut at random within the limit on sizes; the sets are by stage as before."""
    nodes = artifacts.read_json(similarity / "nodes.json", Nodes)["nodes"]
    matrix = artifacts.read_tensors(similarity / "similarity.safetensors")["similarity"].numpy()
    space = CutSpace(PartitionProblem.of(nodes, matrix, read("partition", Partition)))
    found = space.random(count, np.random.default_rng(seed))
    return [tuple(tuple(map(int, own)) for own in space.cuts(rows)) for rows in found]


if __name__ == "__main__":
    run(main)
