"""Random small instances of the assembly problem, and all their feasible paths."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby, pairwise, product

import numpy as np

from lib.dery.paths.problem import AssemblyProblem, Candidate
from lib.dery.paths.tables import KINDS, Columns, Kind, Table
from lib.network.blocks import Block


def cut(names: Sequence[str], sets: int) -> tuple[tuple[Block, ...], ...]:
    """[K][N], networks of `sets` nodes, each a block of its own."""
    return tuple(tuple(Block(name, k, k + 1) for name in names) for k in range(sets))


def path_of(candidate: Candidate) -> Columns:
    """Of one whose networks are m0, m1, ..., cut like that."""
    assert all((block.start, block.stop) == (k, k + 1) for k, block in enumerate(candidate.pick.blocks))
    return tuple(int(name[1:]) for name in candidate.pick.networks)


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
    free = AssemblyProblem(cut([f"m{m}" for m in range(networks)], sets), Table(blocks, stitches), costs)
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


def sharing(seed: int) -> tuple[AssemblyProblem, dict[Columns, float]]:
    """Like `instance`, but blocks of a network share weights, neighbours or not; and every path's parameters, counted
    weight by weight.
    """
    problem = instance(seed)
    generator = np.random.default_rng(seed + 10**6)
    networks, sets = len(problem.names), problem.sets
    weights = generator.integers(1, 40, (networks, 6))
    used = generator.random((networks, sets, 6)) < generator.choice([0.2, 0.5])
    used |= ~used.any(2, keepdims=True)

    def run(m: int, i: int, j: int) -> int:
        return int(weights[m] @ used[m, i : j + 1].any(0))

    blocks = np.array([[run(m, k, k) for m in range(networks)] for k in range(sets)])
    stitches = problem.costs["params"].stitches.copy()
    for k, m in np.ndindex(sets - 1, networks):
        stitches[k, m, m] = run(m, k, k + 1) - run(m, k, k) - run(m, k + 1, k + 1)
    shared = np.zeros((networks, sets, sets))
    for m, i, j in np.ndindex(shared.shape):
        if i < j:
            sums = blocks[i : j + 1, m].sum() + stitches[i:j, m, m].sum()
            shared[m, i, j] = sums - run(m, i, j)
    costs = {**problem.costs, "params": Table(blocks, stitches)}
    found = replace(problem, costs=costs, shared={"params": shared})
    counted = {}
    for path in everything(found):
        changes = [0, *(k for k in range(1, sets) if path[k] != path[k - 1]), sets]
        between = sum(stitches[k - 1, path[k - 1], path[k]] for k in changes[1:-1])
        counted[path] = between + sum(run(path[i], i, j - 1) for i, j in pairwise(changes))
    if "params" in found.limits:
        limit = float(np.quantile(list(counted.values()), generator.uniform(0.05, 0.95)))
        found = replace(found, limits={**found.limits, "params": limit})
    return found, counted


def between(seed: int) -> AssemblyProblem:
    """Like `instance` or `sharing`, with lower limits, stitches that may cost less, and rules on single blocks."""
    problem = sharing(seed)[0] if seed % 2 else instance(seed)
    generator = np.random.default_rng(seed + 2 * 10**6)
    networks, sets = len(problem.names), problem.sets
    cheapest: dict[Kind, Table] = {}
    for kind in ("params", "macs"):
        if generator.random() < 0.4:
            table = problem.costs[kind]
            less = generator.integers(0, 1 + np.maximum(table.stitches, 0).astype(int)) * (
                1 - np.eye(networks, dtype=int)
            )
            cheapest[kind] = Table(table.blocks, table.stitches - less)
    problem = replace(problem, cheapest=cheapest)
    at_least: dict[Kind, float] = {}
    for kind in KINDS:
        if generator.random() < 0.4:
            values = [spent(problem, path, kind, cheapest=True) for path in everything(problem)]
            at_least[kind] = float(np.quantile(values, generator.uniform(0.02, 0.6)))

    def blocks(count: int) -> frozenset[tuple[int, int]]:
        return frozenset((int(generator.integers(sets)), int(generator.integers(networks))) for _ in range(count))

    required = blocks(int(generator.random() < 0.2))
    return replace(
        problem,
        at_least=at_least,
        required_blocks=required,
        excluded_blocks=blocks(int(generator.integers(0, 3))) - required,
        min_sources=1 if generator.random() < 0.5 else problem.min_sources,
    )


def spent(problem: AssemblyProblem, path: Columns, kind: Kind, *, cheapest: bool = False) -> float:
    """The cost of a path by its definition: the most of memory, the sum of everything else, what runs share once."""
    table = problem.cheapest.get(kind, problem.costs[kind]) if cheapest else problem.costs[kind]
    parts = [table.blocks[k, m] for k, m in enumerate(path)]
    parts += [table.stitches[k, m, n] for k, (m, n) in enumerate(pairwise(path))]
    if kind == "memory":
        return max(parts)
    for m, run in groupby(range(len(path)), key=lambda k: path[k]):
        own = list(run)
        parts.append(-problem.shared[kind][m, own[0], own[-1]] if kind in problem.shared else 0)
    return sum(parts)


def lawful(problem: AssemblyProblem) -> list[Columns]:
    """All paths that keep every limit and rule, by their definitions, best first, equal scores by path."""

    def right(path: Columns) -> bool:
        sources = set(path)
        most = len(problem.names) if problem.max_sources is None else problem.max_sources
        return (
            all(spent(problem, path, kind) <= limit for kind, limit in problem.limits.items())
            and all(spent(problem, path, kind, cheapest=True) >= least for kind, least in problem.at_least.items())
            and problem.min_sources <= len(sources) <= most
            and (problem.max_stitches is None or len(list(groupby(path))) <= problem.max_stitches + 1)
            and problem.required <= sources
            and not problem.excluded & sources
            and all(path[k] == m for k, m in problem.required_blocks)
            and all(path[k] != m for k, m in problem.excluded_blocks)
        )

    return sorted(filter(right, everything(problem)), key=lambda path: (-problem.score(path), path))


def everything(problem: AssemblyProblem) -> Iterator[Columns]:
    """All paths, feasible or not, in order."""
    return product(range(len(problem.names)), repeat=problem.sets)


def feasible(problem: AssemblyProblem) -> list[Columns]:
    """All feasible paths, best first, equal scores by path."""
    return sorted(filter(problem.feasible, everything(problem)), key=lambda path: (-problem.score(path), path))
