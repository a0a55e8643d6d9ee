"""Stage `grafts`: whether the front of one network bears the back of another, at any depth (DeRy, figure 4)."""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import permutations, product
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from lib.base import artifacts
from lib.base.progress import track
from lib.dery.assembly.agreement import kendall_tau
from lib.dery.assembly.material import Bricks
from lib.dery.assembly.reassembly import reassemble
from lib.dery.forms import Nodes
from lib.images import data
from lib.images.data import DataSet, Loader
from lib.network.blocks import Block, Pick
from lib.params.assembly import Assembly
from lib.params.base import read
from lib.params.edges import Edges
from lib.params.run import Run
from lib.training.fit import accuracy
from lib.zoo.card import Input
from stages import SCRATCH, prepare, run
from studies.cifar10.group import SETTINGS, Group
from studies.cifar10.params import Study
from studies.cifar10.target import task
from studies.cifar10.tree import opened

SETTING = SETTINGS[
    "recalibrated"
]  # least squares, then statistics of BatchNorm: in closed form, and nothing is lost to a scale
BATCH = 100  # images
Graft = tuple[int, int, int, int]  # front's network, its last node, back's network, the node in front of its first


def main(group: str, dataset: Path, zoo: Path, cut: Path, metrics: Path, points: Path) -> None:
    """Writes a row a graft to `points`, and how well positions and similarity tell its accuracy to `metrics`.

    zoo, cut: folders of the group, the latter with the similarity of its nodes.
    """
    params, study, seed = read("assembly", Assembly), read("study", Study), read("run", Run).seed
    prepare(read("run", Run))
    images, whole = task(group, data.load(dataset, SCRATCH)), Group.load(cut)
    bricks = opened(zoo, whole.names, whole.cuts, images, SETTING.joining(read("edges", Edges)), params, seed)
    tested = data.stratified_sample(images.images, images.test, study.graft_images, seed)
    similar = artifacts.read_tensors(cut / "similarity.safetensors")["similarity"].numpy()
    models = [node["model"] for node in artifacts.read_json(cut / "nodes.json", Nodes)["nodes"]]
    starts = [models.index(name) for name in whole.names]
    rows = measured(bricks, drawn(bricks, study.grafts, seed), similar, starts, images, tested)
    artifacts.write_metrics(points, rows)
    artifacts.write_metrics(metrics, summary(rows))


def drawn(bricks: Bricks, count: int, seed: int) -> list[Graft]:
    """So many of all grafts at random, or all where there are no more: any node but the last of a front, any but the
    first of a back.
    """
    lengths = [len(chain) for chain in bricks.chains]
    every = [
        (a, i, b, j)
        for a, b in permutations(range(len(lengths)), 2)
        for i, j in product(range(1, lengths[a]), range(1, lengths[b]))
    ]
    chosen = np.random.default_rng(seed).permutation(len(every))[:count]
    return [every[g] for g in sorted(chosen)]


def measured(
    bricks: Bricks,
    grafts: Sequence[Graft],
    similar: Float[np.ndarray, "nodes nodes"],
    starts: Sequence[int],
    images: DataSet,
    tested: np.ndarray,
) -> list[dict[str, Any]]:
    """A row a graft: its networks, positions in nodes, as shares of the depth and as stages, what joins, and accuracy.

    similar: similarity of what leaves the nodes, those of network m from row starts[m] on.
    tested: images on which accuracies are measured, in percent; kept: the graft's as a share of that of the back's own
        network.
    """
    loaders: dict[Input, Loader] = {}

    def judged(pick: Pick) -> tuple[float, Any]:
        network, recipe = reassemble(bricks, pick, SETTING.treatment)
        if recipe.input not in loaders:
            loaders[recipe.input] = Loader(images.images, tested, recipe.input.transform(), BATCH)
        return accuracy(network, loaders[recipe.input]), recipe

    own = {m: judged(bricks.whole(m))[0] for m in sorted({b for _, _, b, _ in grafts})}
    rows = []
    for a, i, b, j in track(grafts, "grafts", len(grafts)):
        names, lengths = [bricks.cards[m].name for m in (a, b)], [len(bricks.chains[m]) for m in (a, b)]
        right, recipe = judged(Pick((Block(names[0], 0, i), Block(names[1], j, lengths[1]))))
        rows.append(
            {
                "front": names[0],
                "back": names[1],
                "last": i,
                "after": j,
                "front_depth": i / lengths[0],
                "back_depth": j / lengths[1],
                "front_stage": bisect_left(bricks.cuts[a], i),
                "back_stage": bisect_right(bricks.cuts[b], j),
                "cka": float(similar[starts[a] + i - 1, starts[b] + j - 1]),
                "stitch_r2": recipe.parts[1]["r2"],
                "accuracy": right,
                "kept": right / own[b] if own[b] else 0.0,
            }
        )
    return rows


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Kendall's tau to the share of accuracy that is kept, and that share by stages: mean, and how many grafts."""
    kept = [row["kept"] for row in rows]
    tells = {
        "cka": [row["cka"] for row in rows],
        "stitch_r2": [row["stitch_r2"] for row in rows],
        "front_depth": [row["front_depth"] for row in rows],
        "nearness": [-abs(row["front_depth"] - row["back_depth"]) for row in rows],
    }
    by_stage: dict[str, list[float]] = {}
    for row in rows:
        by_stage.setdefault(f"{row['front_stage']} > {row['back_stage']}", []).append(row["kept"])
    return {
        "grafts": len(rows),
        "tau": {name: kendall_tau(values, kept) for name, values in tells.items()},
        "kept": {stages: {"mean": float(np.mean(own)), "count": len(own)} for stages, own in sorted(by_stage.items())},
    }


if __name__ == "__main__":
    run(main)
