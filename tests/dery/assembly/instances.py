"""Random small instances of the assembly problem, and all their feasible paths."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import product

import numpy as np

from lib.dery.assembly.problem import KINDS, AssemblyProblem, Kind, Path, Table


def instance(seed: int) -> AssemblyProblem:
    """2-5 networks, 2-4 sets; which limits there are, how tight, and the conditions on sources are random.

    Half of them have scores in quarters, so that many candidates tie.
    """
    generator = np.random.default_rng(seed)
    networks, sets = int(generator.integers(2, 6)), int(generator.integers(2, 5))
    apart = 1 - np.eye(networks)

    def table() -> Table:
        blocks = generator.integers(1, 100, (sets, networks))
        return Table(blocks, generator.integers(1, 100, (sets - 1, networks, networks)) * apart)

    stitches = -generator.random((sets - 1, networks, networks)) * apart
    stitches = np.round(4 * stitches) / 4 if generator.random() < 0.5 else stitches
    blocks = generator.random((sets, networks)) * (generator.random() < 0.3)
    costs: dict[Kind, Table] = {"params": table(), "macs": table(), "memory": table()}
    costs["latency"] = Table(table().blocks / 7, table().stitches / 7)
    names = tuple(f"m{m}" for m in range(networks))
    free = AssemblyProblem(names, Table(blocks, stitches), costs)
    limits: dict[Kind, float] = {}
    for kind in KINDS:
        if generator.random() < 0.5:
            values = [free.cost(path, kind) for path in everything(free)]
            limits[kind] = float(np.quantile(values, generator.uniform(0.05, 0.95)))
    least = int(generator.integers(1, min(networks, sets) + 1))
    required = frozenset(generator.permutation(networks)[: generator.integers(0, 2)].tolist())
    excluded = frozenset(generator.permutation(networks)[: generator.integers(0, 2)].tolist()) - required
    most = None if generator.random() < 0.5 else int(generator.integers(least, sets + 1))
    return replace(free, limits=limits, min_sources=least, max_sources=most, required=required, excluded=excluded)


def everything(problem: AssemblyProblem) -> Iterator[Path]:
    """All paths, feasible or not, in order."""
    return product(range(len(problem.names)), repeat=problem.sets)


def feasible(problem: AssemblyProblem) -> list[Path]:
    """All feasible paths, best first, equal scores by path."""
    return sorted(filter(problem.feasible, everything(problem)), key=lambda path: (-problem.score(path), path))
