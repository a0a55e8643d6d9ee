"""The cover-set partition (DeRy, section 3.3, Eq. 2-5): from the problem to a partition with a proven bound."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from . import dp, kernighan_lin, milp
from .bound import relax
from .cover import Cuts, PartitionProblem
from .space import CutSpace

Solver = Literal["dp", "milp", "kernighan_lin"]
Bound = Literal["exact", "relaxation", "none"]
PROVED = 1e-7  # relative gap below which a partition is called optimal: what HiGHS's tolerances leave


@dataclass(frozen=True)
class Partition:
    """cuts[m]: K+1 positions 0..L_m; anchors[k]: the network whose block is the anchor of set k; objective: J.

    random: J_rand, the mean over random legal cuts with medoid anchors; bound: a proven upper bound on J, None where
    none was asked for; violations: blocks beyond the size limit, counted; status: how the search ended.
    """

    cuts: tuple[Cuts, ...]
    anchors: tuple[int, ...]
    objective: float
    random: float
    bound: float | None
    violations: int
    status: str

    @property
    def gap(self) -> float | None:
        """(bound - J) / |J|, None without a bound."""
        return None if self.bound is None else _gap(self.objective, self.bound)

    @property
    def gap_closed(self) -> float | None:
        """(J - J_rand) / (J* - J_rand) in percent, at least, with the bound for J*, so 100 where J is proved to be the
        optimum; None without a bound.
        """
        if self.bound is None:
            return None
        if _gap(self.objective, self.bound) <= PROVED or self.bound <= self.random:
            return 100.0
        return 100 * (self.objective - self.random) / (self.bound - self.random)

    def figures(self) -> dict[str, Any]:
        """What is compared across runs, for JSON."""
        names = ("objective", "bound", "gap", "gap_closed", "random", "violations")
        return {name: getattr(self, name) for name in names}

    def to_dict(self, problem: PartitionProblem, nodes: list[str]) -> dict[str, Any]:
        """For JSON, everything by name. nodes: the names of all nodes, in network order."""
        models: dict[str, Any] = {}
        for m, (name, cuts) in enumerate(zip(problem.names, self.cuts, strict=True)):
            own = nodes[problem.offsets[m] : problem.offsets[m] + problem.lengths[m]]
            blocks = []
            for k, anchor in enumerate(self.anchors):
                theirs = self.cuts[anchor]
                block, other = (m, cuts[k], cuts[k + 1]), (anchor, theirs[k], theirs[k + 1])
                blocks.append(
                    {
                        "set": k,
                        "nodes": own[cuts[k] : cuts[k + 1]],
                        "size": int(problem.blocks[m][cuts[k], cuts[k + 1]]),
                        "similarity_to_anchor": problem.similarity_of(block, other),
                    }
                )
            models[name] = {"cuts": list(cuts), "limit": problem.limit(m), "blocks": blocks}
        return {
            "num_blocks": problem.num_blocks,
            "size": problem.size,
            "weights": {"start": problem.weights[0], "end": problem.weights[1]},
            **self.figures(),
            "status": self.status,
            "anchors": [problem.names[m] for m in self.anchors],
            "models": models,
        }


def solve(
    problem: PartitionProblem,
    solver: Solver = "dp",
    bound: Bound = "exact",
    starts: int = 50,
    gap: float = 0.0,
    random_partitions: int = 500,
    seed: int = 0,
) -> Partition:
    """Maximises J; raises BrickyardError where no legal cuts exist.

    starts: of `dp` and `kernighan_lin`; gap: relative, at which integer programs stop. bound, for these two solvers:
    `relaxation` gives a bound in little time; `exact` goes on to an integer program over the anchors that it leaves,
    which proves the optimum. Better partitions that turn up on the way are taken. `milp` has a bound of its own.
    """
    problem.check()
    space = CutSpace(problem)
    searching, sampling = (np.random.default_rng([seed, stream]) for stream in range(2))
    random = float(space.medoids(space.random(random_partitions, sampling))[0].mean())
    proven: float | None = None
    if solver == "milp":
        solution = milp.solve(space, space.blocks, gap)
        rows, proven, found = solution.rows, solution.bound, "integer program"
    else:
        search = dp.solve if solver == "dp" else kernighan_lin.solve
        rows, found = search(space, starts, searching), f"best of {starts} starts"
        if bound != "none":
            known, (rows, proven) = rows, _bound(space, rows, bound, gap)
            found += "" if rows is known else ", bettered by the proof"
    cuts, anchors = space.cuts(rows), tuple(int(m) for m in space.medoids(rows[None])[1][0])
    objective = problem.objective(cuts, anchors)
    if proven is not None:
        proven = max(proven, objective)
    return Partition(
        cuts, anchors, objective, random, proven, problem.violations(cuts), f"{_status(objective, proven)}; {found}"
    )


def _bound(space: CutSpace, rows: np.ndarray, kind: Bound, gap: float) -> tuple[np.ndarray, float]:
    """The given cuts, or better ones that the proof came upon, and a bound on J."""
    relaxation = relax(space, rows)
    objective = float(space.medoids(relaxation.rows[None])[0][0])
    if kind == "relaxation" or _gap(objective, relaxation.bound) <= max(gap, PROVED):
        return relaxation.rows, relaxation.bound
    solution = milp.solve(space, relaxation.candidates, gap)
    better = float(space.medoids(solution.rows[None])[0][0]) > objective + 1e-9
    return (
        solution.rows if better else relaxation.rows,
        min(relaxation.bound, max(solution.bound, objective)),
    )


def _gap(objective: float, bound: float) -> float:
    return (bound - objective) / max(abs(objective), 1e-12)


def _status(objective: float, bound: float | None) -> str:
    if bound is None:
        return "local optimum"
    share = _gap(objective, bound)
    return "optimal, proved" if share <= PROVED else f"within {100 * share:.2g} % of the optimum, proved"
