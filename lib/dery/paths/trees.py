"""Trees of paths: paths that begin alike share their beginning. What a tree costs, from the tables of its paths."""

from collections.abc import Sequence
from itertools import pairwise

from .problem import AssemblyProblem
from .tables import KINDS, Columns, Kind


def common(path: Columns, others: Sequence[Columns]) -> int:
    """With how many blocks `path` begins like any of `others`."""
    return max((_alike(path, other) for other in others), default=0)


def may_join(problem: AssemblyProblem, paths: Sequence[Columns]) -> bool:
    """Whether paths can be one tree: where two part, no network goes on that has weights or operations in common with
    its blocks before, and no stitch ends the last block that both have, since each would have its own.
    """
    for i, path in enumerate(paths):
        at = common(path, paths[:i])
        if at and problem.blocks[at - 1][path[at - 1]].closes:
            return False
        if at and not all(_apart(problem, own, at) for own in paths if own[:at] == path[:at]):
            return False
    return len(set(paths)) == len(paths)


def price(problem: AssemblyProblem, paths: Sequence[Columns]) -> dict[Kind, float]:
    """All costs of the tree that is made of different paths, shared parts once; milliseconds are floats, the rest
    integers. Memory, in which what is read twice waits for its last reader and logits for one another, is an upper
    bound.
    """
    found: dict[Kind, float] = {}
    for kind in KINDS:
        if kind not in problem.costs:
            continue
        if kind == "memory":
            waiting = sum(_left(problem, path, common(path, paths[:i])) for i, path in enumerate(paths))
            waiting += sum(_left(problem, path, len(path)) for path in paths if len(paths) > 1)
            found[kind] = int(max(problem.cost(path, kind) for path in paths) + waiting)
        else:
            value = sum(
                problem.cost(path, kind) - _prefix(problem, path[: common(path, paths[:i])], kind)
                for i, path in enumerate(paths)
            )
            found[kind] = value if kind == "latency" else int(value)
    return found


def feasible(problem: AssemblyProblem, paths: Sequence[Columns]) -> bool:
    """Whether the tree of some paths can be made, keeps all limits (that on stitches in each tail), and takes the right
    blocks from the right networks (those that it must have in any of its tails).
    """
    own = [tuple(problem.networks[m] for m in path) for path in paths]
    if not may_join(problem, paths) or not problem.admits(frozenset(m for path in own for m in path)):
        return False
    if not all(map(problem.joins, own)):
        return False
    cost, least = price(problem, paths), price(problem.at_cheapest, paths) if problem.at_least else {}
    within = all(cost[kind] <= limit for kind, limit in problem.limits.items())
    return within and problem.takes(own) and all(least[kind] >= value for kind, value in problem.at_least.items())


def _alike(one: Columns, other: Columns) -> int:
    return next((k for k, (a, b) in enumerate(zip(one, other, strict=True)) if a != b), len(one))


def _apart(problem: AssemblyProblem, path: Columns, at: int) -> bool:
    """Whether blocks before and behind position `at` of a path have nothing in common."""
    if at >= len(path) or path[at - 1] != path[at]:
        return True
    m = path[at]
    tables = [problem.costs[kind].stitches for kind in ("params", "macs") if kind in problem.costs]
    return not any(table[at - 1, m, m] for table in tables) and not any(
        own[problem.networks[m]].any() for own in problem.shared.values()
    )


def _prefix(problem: AssemblyProblem, path: Columns, kind: Kind) -> float:
    """What the first blocks of a path cost, which nothing behind them has anything in common with."""
    table = problem.costs[kind]
    blocks = sum(float(table.blocks[k, m]) for k, m in enumerate(path))
    found = blocks + sum(float(table.stitches[k, m, n]) for k, (m, n) in enumerate(pairwise(path)))
    if kind in problem.shared:
        begins = [0, *(k for k in range(1, len(path)) if path[k] != path[k - 1]), len(path)]
        found -= sum(
            float(problem.shared[kind][problem.networks[path[i]], i, j - 1]) for i, j in pairwise(begins) if j > i
        )
    return found


def _left(problem: AssemblyProblem, path: Columns, at: int) -> float:
    """Bytes of what leaves the first `at` blocks of a path, of the images where there are none."""
    return 0.0 if not at else float(problem.leaving[at - 1, path[at - 1]])
