"""One group of networks: cut, compared, priced; every hybrid of them in every setting of the stitches."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cifar10 import work
from benchmarks.cifar10.store import kept
from benchmarks.cifar10.tree import BATCH, ChannelsLast, Judge, Network, reassembled
from lib.base import artifacts
from lib.chain.chain import Chain
from lib.dery import activations, recording
from lib.dery.assembly import gains, prices
from lib.dery.assembly.material import Bricks, open_bricks
from lib.dery.partition.cover import PartitionProblem
from lib.dery.partition.sets import Partition
from lib.dery.partition.solve import solve
from lib.dery.paths.problem import AssemblyProblem, Columns
from lib.dery.similarity.layers import Network as Layers
from lib.dery.similarity.matrix import matrix
from lib.images import data
from lib.images.data import DataSet, Loader
from lib.network.files import load_as
from lib.params.assembly import Assembly, Stitching
from lib.params.base import read
from lib.params.partition import Partition as Params
from lib.params.run import Run
from lib.params.similarity import Similarity
from lib.zoo.card import Card

NETWORKS = Path("networks")
MEMORY = 2 * 2**30  # bytes, for the comparison of activations
SETTINGS = {  # of the stitches, without training
    "identity": Stitching(init="identity", recalibrate="none"),
    "random": Stitching(init="random", recalibrate="none"),
    "least_squares": Stitching(recalibrate="none"),
    "recalibrated": Stitching(recalibrate="statistics"),
    "head": Stitching(recalibrate="head"),
    "layers": Stitching(recalibrate="layers"),
}
SOLVER = {"solver", "bound", "starts", "gap", "random_partitions"}  # what the partition's solver is told
BASIC = ("identity", "random", "least_squares", "recalibrated")


@dataclass(frozen=True)
class Study:
    """names: of the networks; data: images and splits of the task; settings: of the stitches, those that are looked
    at. A hybrid is its path: the place in `names` of each block's network.
    """

    names: tuple[str, ...]
    data: DataSet
    params: Assembly
    seed: int
    partition: Partition
    similarity: Path
    results: Path
    workers: int
    settings: tuple[str, ...] = tuple(SETTINGS)
    _made: dict[str, dict[Columns, Network]] = field(default_factory=dict, compare=False, repr=False)

    @cached_property
    def bricks(self) -> Bricks:
        """The networks in blocks, with the images for fits."""
        opened = open_bricks(work.ZOO, self.names, self.partition.cuts, self.data, self.params, self.seed, trust=True)
        quick = {id(own): ChannelsLast(own.images, own.index, own.transform, own.batch_size) for own in opened.fit}
        return replace(opened, fit=tuple(quick[id(own)] for own in opened.fit))

    @cached_property
    def problem(self) -> AssemblyProblem:
        """Costs and the scores by R^2 of the stitches; no budget."""
        problem = prices.assembly_problem(self.bricks, self.params, Path("latency.json"))
        return replace(problem, scores=self.scores("stitch_r2"))

    def scores(self, kind: str) -> Any:
        """Predicted gains of the stitches by `stitch_r2` or `cka`."""
        params = self.params.model_copy(update={"score": kind})
        return gains.scores(self.bricks, params, self.partition, self.similarity, range(len(self.names)))

    @cached_property
    def hybrids(self) -> list[Columns]:
        """All paths of two sources at least, in order."""
        return [path for path in product(range(len(self.names)), repeat=self.bricks.sets) if len(set(path)) > 1]

    @property
    def sources(self) -> list[Columns]:
        """The unmodified networks."""
        return [(m,) * self.bricks.sets for m in range(len(self.names))]

    def title(self, path: Columns) -> str:
        """The networks that supply the blocks."""
        return " > ".join(self.names[m] for m in path) if len(set(path)) > 1 else self.names[path[0]]

    def networks(self, setting: str, paths: Sequence[Columns]) -> dict[Columns, Network]:
        """Put together without training, each once."""
        made = self._made.setdefault(setting, {})
        missing = [path for path in paths if path not in made]
        bricks = configured(self.bricks, setting)
        make = partial(reassembled, bricks, workers=self.workers)
        made |= kept(NETWORKS, bricks, missing, make) if setting == "layers" else make(missing)  # seconds each
        return {path: made[path] for path in paths}

    def right(self, setting: str, paths: Sequence[Columns], judge: Judge) -> dict[Columns, np.ndarray]:
        """Whether each is right on each image of the judge, bool [n]."""
        return judge(self.bricks, self.networks(setting, paths))

    def judge(self, index: np.ndarray) -> Judge:
        """On the images of `index`."""
        return Judge(self.data, index, self.results / "right", self.workers)

    def some_test(self, count: int) -> Judge:
        """A stratified sample of the test images."""
        return self.judge(data.stratified_sample(self.data.images, self.data.test, count, self.seed))

    @cached_property
    def on_test(self) -> Judge:
        """All test images."""
        return self.judge(self.data.test)

    @cached_property
    def on_few(self) -> Judge:
        """The labelled train images of the ranking."""
        return self.judge(data.stratified_sample(self.data.images, self.data.train, self.params.rank_images, self.seed))


def configured(bricks: Bricks, setting: str) -> Bricks:
    """The same bricks, to be joined in one of the settings."""
    return replace(bricks, stitching=SETTINGS[setting])


def accuracy(right: Mapping[Columns, np.ndarray]) -> dict[Columns, float]:
    """In percent."""
    return {path: 100 * float(own.mean()) for path, own in right.items()}


def open_study(
    group: str, names: Sequence[str], images: DataSet, workers: int, settings: Sequence[str] = tuple(SETTINGS)
) -> Study:
    """Compares and partitions the networks `names`, made where they are missing; kept in folders named `group`."""
    seed, params = read("run", Run).seed, read("assembly", Assembly)
    recorded = Path("activations") / group
    for name in names:
        _record(work.network(name), recorded / name, images)
    similarity = Path("similarity") / group
    found = activations.load(recorded, names)
    similar = matrix([Layers.of(network) for network in found], read("similarity", Similarity), MEMORY)
    nodes = [
        {"model": network.model, "node": node["name"], "params": node["params"], "macs": node["macs"]}
        for network in found
        for node in network.nodes
    ]
    artifacts.write_tensors(similarity / "similarity.safetensors", {"similarity": similar})
    artifacts.write_json(similarity / "nodes.json", {"nodes": nodes})
    problem = PartitionProblem.of(nodes, similar.numpy(), read("partition", Params))
    solver = read("partition", Params).model_dump(include=SOLVER)
    partition = solve(problem, **solver, seed=seed)
    return Study(tuple(names), images, params, seed, partition, similarity, Path("results"), workers, tuple(settings))


def _record(folder: Path, out: Path, images: DataSet) -> None:
    """The activations of one network on the probe images."""
    model, card = load_as(Card, folder, trust=True)
    probe = Loader(images.images, images.probe, card.input.transform(), BATCH)
    recording.record(out, Chain(card.name, model, card.input.shape, declared=card.nodes), probe, images.probe)
