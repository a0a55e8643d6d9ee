"""Stage `cut`: the networks of a group compared, cut into blocks, and its paths priced."""

import tempfile
from collections.abc import Sequence
from itertools import product
from pathlib import Path

from lib.base import artifacts, environment
from lib.chain.chain import Chain
from lib.dery import activations, recording
from lib.dery.assembly import gains, prices
from lib.dery.assembly.material import Bricks
from lib.dery.partition.cover import PartitionProblem
from lib.dery.partition.sets import Partition
from lib.dery.partition.solve import solve
from lib.dery.paths.tables import Columns
from lib.dery.similarity import rows
from lib.dery.similarity.layers import Network as Layers
from lib.dery.similarity.matrix import matrix
from lib.images import data
from lib.images.data import DataSet, Loader
from lib.network import files
from lib.params.activations import Activations
from lib.params.assembly import Assembly
from lib.params.base import read
from lib.params.edges import Edges
from lib.params.partition import Partition as Params
from lib.params.run import Run
from lib.params.similarity import Similarity
from lib.params.zoo import Zoo
from lib.zoo.card import Card
from stages import SCRATCH, prepare, run
from studies.cifar10.group import Group, Worth
from studies.cifar10.target import task
from studies.cifar10.tree import joined, opened

SOLVER = {"solver", "bound", "starts", "gap", "random_partitions"}  # what the partition's solver is told


def main(group: str, dataset: Path, zoo: Path, out: Path, metrics: Path) -> None:
    """Writes group.json, and the similarity of all nodes as stage `similarity` does, to `out`; cuts to `metrics`.

    zoo: the folder with the networks of the group.
    """
    prepare(read("run", Run))
    names = tuple(name for name in read("zoo", Zoo).models if (zoo / name).is_dir())
    images = task(group, data.load(dataset, SCRATCH))
    partition = cut(names, images, zoo, out)
    cuts = tuple(partition.cuts[name] for name in names)
    seed, params = read("run", Run).seed, read("assembly", Assembly)
    bricks = joined(opened(zoo, names, cuts, images, read("edges", Edges), params, seed))
    anchors = [[member.similarity_to_anchor for member in partition.members(name)] for name in names]
    worth = priced(bricks, params, out, anchors)
    Group(group, names, cuts, len(images.probe), worth).save(out)
    artifacts.write_metrics(metrics, {"objective": partition.objective, "cuts": dict(zip(names, cuts, strict=True))})


def priced(
    bricks: Bricks, params: Assembly, similarity: Path, anchors: list[list[float]] | None = None
) -> dict[Columns, Worth]:
    """Of every path what it costs and promises.

    bricks: with all stitches.
    similarity: folder of the stage of that name; anchors: of block k of network m the similarity to its anchor, none
    where blocks have been cut at random.
    """
    networks = range(len(bricks.cards))
    problem = prices.assembly_problem(bricks, params, Path("latency.json"))
    by = {
        kind: gains.scores(bricks, params.model_copy(update={"score": kind}), None, similarity)
        for kind in ("stitch_r2", "cka")
    }
    return {
        path: Worth(
            params=int(problem.cost(path, "params")),
            macs=int(problem.cost(path, "macs")),
            stitch_r2=sum(by["stitch_r2"].parts(path)),
            cka=sum(by["cka"].parts(path)),
            similarity=sum(anchors[m][k] for k, m in enumerate(path)) if anchors else 0.0,
        )
        for path in product(networks, repeat=bricks.sets)
    }


def cut(names: Sequence[str], images: DataSet, zoo: Path, out: Path) -> Partition:
    """Networks cut as stages `activations`, `similarity` and `partition` do it, on the task's probe images; the
    similarity is written to `out`.
    """
    params = read("activations", Activations)
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            model, card = files.load_as(Card, zoo / name, trust=True)
            probe = Loader(images.images, images.probe, card.input.transform(), params.batch_size)
            chain = Chain(card.name, model, card.input.shape, declared=card.nodes)
            recording.record(Path(folder) / name, chain, probe, images.probe, params.grid)
        found = activations.load(Path(folder), names)
        networks = [Layers.of(network) for network in found]
        similar = matrix(networks, read("similarity", Similarity), environment.memory())
        nodes = rows.nodes(found)
    artifacts.write_tensors(out / "similarity.safetensors", {"similarity": similar})
    artifacts.write_json(out / "nodes.json", {"nodes": nodes})
    chosen = read("partition", Params)
    problem = PartitionProblem.of(nodes, similar.numpy(), chosen)
    return solve(problem, **chosen.model_dump(include=SOLVER), seed=read("run", Run).seed)


if __name__ == "__main__":
    run(main)
