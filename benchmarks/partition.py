"""How close each solver comes to the optimal cover-set partition, at what cost.

python -m benchmarks.partition [--instance FILE.npz] [--data DIR] [--checkpoints DIR] [--seed S]

Two instances, K = 4, eps = 0.2, sizes in nodes, start = first_output (the authors' objective). Synthetic: 28 networks
of 8 to 56 nodes made from the seed, or `similarity` [nodes, nodes] and `lengths` [networks] of FILE. Real: the CIFAR-10
ResNets in --checkpoints on 512 train images of --data (train.tar.gz or folders); without them, the networks whose
similarity the pipeline has left in artifacts/. Random: J_rand, the mean of 500. Proof: dp, the relaxation, and the
integer program over what it leaves; milp: the whole integer program, from nothing. CPU seconds of one thread.
"""

import argparse
import json
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

if __name__ == "__main__":  # before torch is loaded
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from lib.base import artifacts
from lib.chain.chain import Chain
from lib.dery import activations, recording
from lib.dery.partition.cover import PartitionProblem
from lib.dery.partition.solve import solve
from lib.dery.partition.space import CutSpace
from lib.dery.similarity.layers import Network
from lib.dery.similarity.matrix import matrix
from lib.images import data
from lib.images.sources import Images, open_images
from lib.params.dataset import Dataset
from lib.params.similarity import Similarity
from lib.params.zoo import ZooModel
from lib.zoo.create import create

CKA = Similarity(index="cka", bandwidth=0.8, variance=0.99, batch_images=None)
MEMORY = 2 * 2**30  # bytes
NUM_BLOCKS, EPSILON, IMAGES, RANDOM = 4, 0.2, 512, 500
SOLVERS: dict[str, dict[str, Any]] = {
    "kernighan_lin": {"solver": "kernighan_lin", "bound": "none", "starts": 200},
    "dp": {"solver": "dp", "bound": "none", "starts": 50},
    "dp + proof": {"solver": "dp", "bound": "exact", "starts": 50},
    "milp": {"solver": "milp"},
}


@dataclass(frozen=True)
class Row:
    """objective; bound, None where none is proved; CPU seconds; violations over all partitions that were made."""

    objective: float
    bound: float | None
    seconds: float
    violations: int


def main() -> None:
    """Prints a table an instance and, as the last line, the figures as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.partition", description=str(__doc__).splitlines()[0])
    parser.add_argument("--instance", type=Path, help="synthetic instance; made from the seed if absent")
    parser.add_argument("--data", type=Path, default=Path("../shared/data/cifar10"))
    parser.add_argument("--checkpoints", type=Path, default=Path("../shared/checkpoints"))
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    console = Console(width=120)

    figures: dict[str, Any] = {}
    violations = 0
    for kind, instance in (
        ("real", real(arguments.data, arguments.checkpoints, arguments.seed)),
        ("synthetic", synthetic(arguments.instance, arguments.seed)),
    ):
        if instance is None:
            console.print(f"{kind}: skipped, there are neither checkpoints and images nor artifacts/similarity")
            figures |= {f"{kind}_gap_closed_percent": None}
            continue
        name, problem = instance
        rows = measure(problem, arguments.seed)
        console.print(_table(f"{kind}: {name}", problem, rows))
        dp, proof = rows["dp"], rows["dp + proof"]
        assert proof.bound is not None
        violations += sum(row.violations for row in rows.values())
        figures |= {
            f"{kind}_gap_closed_percent": _closed(dp.objective, rows),
            f"{kind}_gap_percent": 100 * (proof.bound - dp.objective) / proof.bound,
            f"{kind}_optimum": proof.bound,
            f"{kind}_seconds": dp.seconds,
            f"{kind}_proof_seconds": proof.seconds,
            f"{kind}_milp_seconds": rows["milp"].seconds,
            f"{kind}_optima_differ_by": abs(rows["milp"].objective - proof.objective),
            f"{kind}_kernighan_lin_gap_closed_percent": _closed(rows["kernighan_lin"].objective, rows),
        }
    figures = {key: value if value is None else float(f"{value:.10g}") for key, value in figures.items()}
    print(json.dumps({**figures, "violations": violations}))


def measure(problem: PartitionProblem, seed: int) -> dict[str, Row]:
    """Every solver on one problem; the random partitions first."""
    problem.check()
    space = CutSpace(problem)

    def random() -> Row:
        rows = space.random(RANDOM, np.random.default_rng(seed))
        violations = sum(problem.violations(space.cuts(own)) for own in rows)
        return Row(float(space.medoids(rows)[0].mean()), None, 0.0, violations)

    def solver(options: dict[str, Any]) -> Callable[[], Row]:
        def run() -> Row:
            found = solve(problem, **options, random_partitions=1, seed=seed)
            return Row(found.objective, found.bound, 0.0, found.violations)

        return run

    rows = {}
    for name, run in {"random": random, **{name: solver(options) for name, options in SOLVERS.items()}}.items():
        started = time.process_time()
        row = run()
        rows[name] = Row(row.objective, row.bound, time.process_time() - started, row.violations)
    return rows


def real(folder: Path, checkpoints: Path, seed: int) -> tuple[str, PartitionProblem] | None:
    """Trained networks: from checkpoints, else from what the pipeline has left, else None."""
    files = {f"resnet{depth}": path for path in sorted(checkpoints.glob("resnet*.th")) if (depth := _depth(path))}
    if files and folder.is_dir():
        matrix, lengths = _cifar(files, folder, seed)
        return f"{', '.join(files)} on CIFAR-10", _problem(tuple(files), matrix, lengths)
    left = Path("artifacts/similarity")
    if not (left / "nodes.json").is_file():
        return None
    owners = [node["model"] for node in artifacts.read_json(left / "nodes.json")["nodes"]]
    names = tuple(dict.fromkeys(owners))
    matrix = artifacts.read_tensors(left / "similarity.safetensors")["similarity"].numpy()
    return f"{', '.join(names)} in {left}", _problem(names, matrix, [owners.count(name) for name in names])


def synthetic(file: Path | None, seed: int) -> tuple[str, PartitionProblem]:
    """28 networks from a file or from the seed (`walks`)."""
    if file is not None:
        found = np.load(file)
        lengths = found["lengths"].tolist()
        return file.name, _problem(tuple(f"net{m}" for m in range(len(lengths))), found["similarity"], lengths)
    return f"seed {seed}", walks(28, (8, 56), NUM_BLOCKS, seed)


def walks(networks: int, nodes: tuple[int, int], num_blocks: int, seed: int) -> PartitionProblem:
    """Networks of so many nodes, least and most.

    Each follows the same path through 24 dimensions at a pace of its own and with its own detours; similarity is the
    squared cosine of the points passed.
    """
    generator = np.random.default_rng(seed)
    lengths = generator.integers(nodes[0], nodes[1] + 1, size=networks).tolist()
    path = generator.normal(size=(201, 24)).cumsum(0)
    points = []
    for length in lengths:
        depth = np.linspace(0, 1, length) ** generator.uniform(0.6, 1.6)
        common = np.stack([np.interp(depth, np.linspace(0, 1, len(path)), own) for own in path.T], 1)
        points.append(common + generator.normal(size=common.shape).cumsum(0) * 10 / np.sqrt(length))
    unit = np.concatenate(points)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    return _problem(tuple(f"net{m}" for m in range(networks)), (unit @ unit.T) ** 2, lengths, num_blocks)


def _cifar(files: dict[str, Path], folder: Path, seed: int) -> tuple[np.ndarray, list[int]]:
    """Linear CKA of all residual blocks' pooled outputs on train images, and the number of blocks of each network."""
    source = Dataset(source="folder", path=str(folder), image_size=32, validation=0.1, test=0.1, probe_images=IMAGES)
    images = open_images(source, Path(".scratch"))
    probe = np.random.default_rng(seed).permutation(np.flatnonzero(~images.held_out))[:IMAGES]
    with TemporaryDirectory() as scratch:
        for name, path in files.items():
            _record(Path(scratch) / name, name, path, images, probe)
        found = activations.load(Path(scratch), files)
        similar = matrix([Network.of(net) for net in found], CKA, MEMORY)
        return similar.numpy(), [len(net.nodes) for net in found]


def _record(out: Path, name: str, path: Path, images: Images, probe: np.ndarray) -> None:
    """Writes the pooled activations of one checkpoint."""
    entry = ZooModel(
        factory="data/models/cifar_resnet.py:cifar_resnet",
        kwargs={"depth": _depth(path)},
        weights=str(path),
        input_size=32,
    )
    network, _, expected = create(name, entry, len(images.classes))
    chain = Chain(name, network, expected.shape)
    recording.record(out, chain, data.Loader(images, probe, expected.transform(), 64), probe)


def _depth(path: Path) -> int:
    found = re.match(r"resnet(\d+)\b", path.name)
    return int(found[1]) if found else 0


def _problem(
    names: tuple[str, ...], matrix: np.ndarray, lengths: list[int], num_blocks: int = NUM_BLOCKS
) -> PartitionProblem:
    sizes = tuple((1,) * length for length in lengths)
    num_blocks = min(num_blocks, *lengths)
    nodes = tuple(tuple(str(i) for i in range(length)) for length in lengths)
    return PartitionProblem(names, nodes, matrix, sizes, num_blocks, EPSILON, start="first_output")


def _closed(objective: float, rows: dict[str, Row]) -> float:
    """The share of the gap between random and optimal, in percent."""
    random, optimum = rows["random"].objective, rows["dp + proof"].bound
    assert optimum is not None
    return 100.0 if optimum <= random else 100 * (objective - random) / (optimum - random)


def _table(title: str, problem: PartitionProblem, rows: dict[str, Row]) -> Table:
    size = f"N = {len(problem.names)}, {sum(problem.lengths)} nodes, K = {problem.num_blocks}, eps = {problem.epsilon}"
    table = Table("solver", title=f"{title} ({size})")
    for heading in ("objective J", "proven bound", "gap closed, %", "below optimum, %", "CPU s", "violations"):
        table.add_column(heading, justify="right")
    optimum = rows["dp + proof"].bound
    assert optimum is not None
    for name, row in rows.items():
        table.add_row(
            name,
            f"{row.objective:.4f}",
            "" if row.bound is None else f"{row.bound:.4f}",
            f"{_closed(row.objective, rows):.3f}",
            f"{100 * (optimum - row.objective) / optimum:.4f}",
            f"{row.seconds:.2f}",
            str(row.violations),
        )
    return table


if __name__ == "__main__":
    main()
