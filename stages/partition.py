"""Stage `partition`: cuts every network into K blocks and sorts them into equivalence sets."""

from pathlib import Path

from lib import artifacts
from lib.dery.partition import PartitionProblem, solve
from lib.params.base import read
from lib.params.partition import Partition
from lib.params.run import Run
from stages import run


def main(similarity: Path, out: Path, metrics: Path) -> None:
    """Writes partition.json: cuts, blocks, anchors, equivalence sets, objective, bound."""
    params = read("partition", Partition)
    matrix = artifacts.read_tensors(similarity / "similarity.safetensors")["similarity"].numpy()
    nodes = artifacts.read_json(similarity / "nodes.json")
    names = list(dict.fromkeys(node["model"] for node in nodes))
    problem = PartitionProblem(
        names=tuple(names),
        similarity=matrix,
        lengths=tuple(sum(node["model"] == name for node in nodes) for name in names),
        num_blocks=params.num_blocks,
        epsilon=params.epsilon,
        start=params.start,
    )
    result = solve(problem, params.starts, params.random_partitions, read("run", Run).seed)
    artifacts.write_json(out, result.to_dict(problem, [node["node"] for node in nodes]))
    artifacts.write_json(metrics, {"objective": result.objective, "random": result.random, "bound": result.bound})


if __name__ == "__main__":
    run(main)
