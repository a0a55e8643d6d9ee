"""Stage `partition`: cuts every network into K blocks and sorts them into equivalence sets."""

from pathlib import Path

from lib.base import artifacts
from lib.dery.forms import Nodes
from lib.dery.partition.cover import PartitionProblem
from lib.dery.partition.solve import solve
from lib.params.base import read
from lib.params.partition import Partition
from lib.params.run import Run
from stages import run


def main(similarity: Path, out: Path, metrics: Path) -> None:
    """Writes partition.json: equivalence sets of blocks, their anchors, objective, bound."""
    params = read("partition", Partition)
    matrix = artifacts.read_tensors(similarity / "similarity.safetensors")["similarity"].numpy()
    nodes = artifacts.read_json(similarity / "nodes.json", Nodes)["nodes"]
    result = solve(
        PartitionProblem.of(nodes, matrix, params),
        solver=params.solver,
        bound=params.bound,
        starts=params.starts,
        gap=params.gap,
        random_partitions=params.random_partitions,
        seed=read("run", Run).seed,
        cuts=params.cuts,
    )
    artifacts.write_json(out, result.to_dict())
    artifacts.write_metrics(metrics, result.figures())


if __name__ == "__main__":
    run(main)
