"""The cover-set partition (DeRy, section 3.3, Eq. 2-5): from the problem to a partition with a proven bound."""

from typing import Literal

import numpy as np

from . import depth, dp, kernighan_lin, milp
from .bound import relax
from .cover import PartitionProblem
from .sets import PROVED, Partition, relative_gap
from .space import CutSpace

Solver = Literal["dp", "milp", "kernighan_lin"]
Bound = Literal["exact", "relaxation", "none"]
Where = Literal["sets", "free"]


def solve(
    problem: PartitionProblem,
    solver: Solver = "dp",
    bound: Bound = "exact",
    starts: int = 50,
    gap: float = 0.0,
    random_partitions: int = 500,
    seed: int = 0,
    cuts: Where = "sets",
) -> Partition:
    """Maximises J; raises BrickyardError where no legal cuts exist.

    cuts: `free` ones are at equal depths (`depth`), whatever J is then, without a bound.

    starts: of `dp` and `kernighan_lin`; gap: relative, at which integer programs stop. bound, for these two solvers:
    `relaxation` gives a bound in little time; `exact` goes on to an integer program over the anchors that it leaves,
    which proves the optimum. Better partitions that turn up on the way are taken. `milp` has a bound of its own.
    """
    problem.check()
    space = CutSpace(problem)
    searching, sampling = (np.random.default_rng([seed, stream]) for stream in range(2))
    random = float(space.medoids(space.random(random_partitions, sampling))[0].mean())
    proven: float | None = None
    if cuts == "free":
        rows, found = depth.solve(space), ""
    elif solver == "milp":
        solution = milp.solve(space, space.blocks, gap)
        rows, proven, found = solution.rows, solution.bound, "integer program"
    else:
        search = dp.solve if solver == "dp" else kernighan_lin.solve
        rows, found = search(space, starts, searching), f"best of {starts} starts"
        if bound != "none":
            known, (rows, proven) = rows, _bound(space, rows, bound, gap)
            found += "" if rows is known else ", bettered by the proof"
    made, anchors = space.cuts(rows), tuple(int(m) for m in space.medoids(rows[None])[1][0])
    objective = problem.objective(made, anchors)
    if proven is not None:
        proven = max(proven, objective)
    status = "cut at equal depths" if cuts == "free" else f"{_status(objective, proven)}; {found}"
    return problem.partition(made, anchors, random, proven, status)


def _bound(space: CutSpace, rows: np.ndarray, kind: Bound, gap: float) -> tuple[np.ndarray, float]:
    """The given cuts, or better ones that the proof came upon, and a bound on J."""
    relaxation = relax(space, rows)
    objective = float(space.medoids(relaxation.rows[None])[0][0])
    if kind == "relaxation" or relative_gap(objective, relaxation.bound) <= max(gap, PROVED):
        return relaxation.rows, relaxation.bound
    solution = milp.solve(space, relaxation.candidates, gap)
    better = float(space.medoids(solution.rows[None])[0][0]) > objective + 1e-9
    return (
        solution.rows if better else relaxation.rows,
        min(relaxation.bound, max(solution.bound, objective)),
    )


def _status(objective: float, bound: float | None) -> str:
    if bound is None:
        return "local optimum"
    share = relative_gap(objective, bound)
    return "optimal, proved" if share <= PROVED else f"within {100 * share:.2g} % of the optimum, proved"
