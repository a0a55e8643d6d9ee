"""Table 4: the paper's ablation: cover set on and off, predictor on and off, with what the search costs."""

from dataclasses import replace
from statistics import mean

import numpy as np

from benchmarks.cifar10.statistics import pick
from benchmarks.cifar10.study import Study, accuracy
from benchmarks.cifar10.tuning import START, tuned
from benchmarks.sheet import Result, Sheet, cells
from lib.base import artifacts
from lib.dery.partition.cover import PartitionProblem
from lib.dery.partition.space import CutSpace
from lib.dery.paths.problem import Columns
from lib.params.base import read
from lib.params.partition import Partition

RANDOM_CUTS = 3  # partitions for the mean without a cover set
RANDOM_PICKS = 4  # hybrids of each for the mean without a predictor


def random_cuts(study: Study) -> list[Study]:
    """The same networks, cut at random within the limit on sizes; the sets are by stage as before."""
    nodes = artifacts.read_json(study.similarity / "nodes.json")["nodes"]
    similarity = artifacts.read_tensors(study.similarity / "similarity.safetensors")["similarity"].numpy()
    problem = PartitionProblem.of(nodes, similarity, read("partition", Partition))
    space = CutSpace(problem)
    rows = space.random(RANDOM_CUTS, np.random.default_rng(study.seed))
    objectives, anchors = space.medoids(rows)
    partitions = [
        problem.partition(space.cuts(own), medoids.tolist(), float(objectives.mean()), status="random cuts")
        for own, medoids in zip(rows, anchors, strict=True)
    ]
    return [replace(study, partition=partition, _made={}) for partition in partitions]


def table(study: Study, tune: bool) -> Result:
    """Mean over the random parts; cost in networks put together and images through them."""
    few, fit = study.params.rank_images, len(study.data.probe)
    cells_of: dict[tuple[bool, bool], list[list[float]]] = {}
    macs = {}
    for cover in (True, False):
        for predictor in (True, False):
            studies = [study] if cover else random_cuts(study)
            found, spent = list[list[float]](), list[float]()
            for own in studies:
                chosen, looked = _picks(own, cover, predictor)
                found += _tested(own, chosen, tune)
                spent.append(sum(own.problem.cost(path, "macs") for path in looked))
            cells_of[cover, predictor] = found
            macs[cover, predictor] = mean(spent)
    rows, figures = [], {}
    for (cover, predictor), found in cells_of.items():
        means = [mean(column) for column in zip(*found, strict=True)]
        spread = [float(np.std(column)) for column in zip(*found, strict=True)]
        cost = macs[cover, predictor] * (few + 2 * fit) / 1e12
        rows.append(
            (
                "on" if cover else "off",
                "on" if predictor else "off",
                str(len(found)),
                *(f"{m:.1f} ± {s:.1f}" for m, s in zip(means, spread, strict=True)),
                *cells([cost], 2),
            )
        )
        figures[f"cover_{'on' if cover else 'off'}_predictor_{'on' if predictor else 'off'}"] = {
            "untrained": means[0],
            "frozen": means[1] if tune else None,
            "networks": len(found),
            "search_tmacs": cost,
        }
    columns = ("cover set", "predictor", "networks", "without training", *(["frozen"] if tune else []))
    notes = (
        f"Predictor on: the best of {study.params.pool} on {few} labelled train images; off: random hybrids, mean ± "
        f"deviation. Cover set off: {RANDOM_CUTS} random legal partitions. Search cost: forward passes of the networks "
        f"that are put together to choose one, over {fit} images twice to fit the stitches and {few} to choose; refits "
        "of the layers behind them, which take about 20 times as long as the stitches, and the scores of all stitches "
        f"are not in it. What it saves is to try all {len(study.hybrids)} on labelled images."
    )
    sheet = Sheet("4. Ablation: test accuracy, %", (*columns, "search, TMACs"), tuple(rows), notes)
    return Result(figures, (sheet,))


def _picks(study: Study, cover: bool, predictor: bool) -> tuple[list[Columns], list[Columns]]:
    """The hybrids that are judged, and those that had to be put together to choose one."""
    if not predictor:
        generator = np.random.default_rng(study.seed)
        count = len(study.hybrids) if cover else RANDOM_PICKS
        return [study.hybrids[i] for i in generator.permutation(len(study.hybrids))[:count]], []
    score = {path: study.problem.score(path) for path in study.hybrids}
    pool = sorted(study.hybrids, key=lambda path: (-score[path], path))[: study.params.pool]
    again = accuracy(study.right(START, pool, study.on_few))
    return [pick(pool, score, again, study.params.pool)], pool


def _tested(study: Study, paths: list[Columns], tune: bool) -> list[list[float]]:
    """Of each path the test accuracy, untrained and where asked for frozen."""
    columns = [accuracy(study.right(START, paths, study.on_test))]
    if tune:
        columns.append(accuracy(tuned(study, study.networks(START, paths), ["frozen"])))
    return [[column[path] for column in columns] for path in paths]
