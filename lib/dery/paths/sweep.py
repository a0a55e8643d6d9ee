"""The same choice under one budget after another: what each of them buys."""

from collections.abc import Sequence
from dataclasses import replace

from . import search
from .problem import AssemblyProblem, Pool
from .tables import Kind


def sweep(
    problem: AssemblyProblem, kind: Kind, limits: Sequence[float], count: int = 1, apart: int = 0
) -> tuple[Pool, ...]:
    """What `search.best` finds under each upper limit on `kind`, in place of the problem's own.

    problem: all other limits of it hold, and the lower one on `kind`.
    kind: one of `problem.costs`.
    limits: in parameters, MACs, bytes or milliseconds; a pool for each, in their order.
    count, apart: of each pool, as there.

    A pool that keeps the next smaller limit is also the one under that, and is not searched for again.
    """
    found: dict[float, Pool] = {}
    pool: Pool | None = None
    for limit in sorted(set(limits), reverse=True):
        kept = pool is not None and pool.complete and all(one.cost[kind] <= limit for one in pool.candidates)
        if pool is None or not kept:
            pool = search.best(replace(problem, limits={**problem.limits, kind: limit}), count, apart=apart)
        found[limit] = pool
    return tuple(found[limit] for limit in limits)
