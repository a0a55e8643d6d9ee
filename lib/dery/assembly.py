"""Reassembly as an integer program (DeRy, section 3.4, Eq. 8-11): problem, solver, result.

Notation: K sets, N networks. A candidate is a path m_1, ..., m_K: from the k-th equivalence set the block of network
m_k, which is its k-th block; so each set and each stage supplies exactly one block. Where m_k != m_k+1 a stitch
stands between them.
"""

from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import pyomo.environ as pyo

from lib import program
from lib.cost import Cost
from lib.errors import BrickyardError

Path = tuple[int, ...]


@dataclass(frozen=True)
class AssemblyProblem:
    """blocks[k][m], stitches[k][m][n] (between sets k and k+1; zero for m = n), heads[m]: costs.

    scores: [K-1, N, N], predicted gain of each stitch, 0 for m = n; params, macs: budgets or None.
    """

    names: tuple[str, ...]
    blocks: tuple[tuple[Cost, ...], ...]
    stitches: tuple[tuple[tuple[Cost, ...], ...], ...]
    heads: tuple[Cost, ...]
    scores: np.ndarray
    params: float | None
    macs: float | None
    min_sources: int

    def cost(self, path: Path) -> Cost:
        """Cost of a whole candidate: blocks, stitches, head."""
        total = self.heads[path[-1]]
        for k, m in enumerate(path):
            total = total + self.blocks[k][m]
        for k, (m, n) in enumerate(zip(path[:-1], path[1:], strict=True)):
            total = total + self.stitches[k][m][n]
        return total

    def score(self, path: Path) -> float:
        """Sum over the stitches."""
        return float(sum(self.scores[k, m, n] for k, (m, n) in enumerate(zip(path[:-1], path[1:], strict=True))))

    def feasible(self, path: Path) -> bool:
        """Whether a path keeps the budgets and has enough sources."""
        return self.cost(path).within(self.params, self.macs) and len(set(path)) >= self.min_sources


@dataclass(frozen=True)
class Candidate:
    """path: a network for each set; score: predicted; cost: of the finished network."""

    path: Path
    score: float
    cost: Cost


@dataclass(frozen=True)
class Pool:
    """The best candidates in descending order, the first one's proven bound, and how the search ended."""

    candidates: tuple[Candidate, ...]
    bound: float
    status: str


def solve(problem: AssemblyProblem, count: int) -> Pool:
    """The `count` best candidates, each by an integer program that excludes those before it.

    Raises BrickyardError when no candidate meets the budgets: it names, for each, the smallest feasible value.
    """
    model = _model(problem)
    found: list[Candidate] = []
    bound, status = 0.0, "optimal"
    while len(found) < count:
        solution = program.solve(model)
        if solution.status == "infeasible":
            status = f"optimal; {len(found)} candidates meet the budgets"
            break
        path = _path(model)
        if not found:
            bound = float(solution.bound or 0.0)
        found.append(Candidate(path, problem.score(path), problem.cost(path)))
        model.excluded.add(sum(model.x[k, m] for k, m in enumerate(path)) <= len(path) - 1)
    if not found:
        raise BrickyardError(_infeasible(problem))
    return Pool(tuple(found), bound, status)


def pareto(problem: AssemblyProblem) -> list[Candidate]:
    """The candidates that no other beats in both score and parameters, from the largest to the smallest.

    Found by solving again with the parameter budget just below the last one's parameters.
    """
    frontier: list[Candidate] = []
    while True:
        model = _model(problem)
        if program.solve(model).status == "infeasible":
            return frontier
        path = _path(model)
        candidate = Candidate(path, problem.score(path), problem.cost(path))
        frontier = [c for c in frontier if c.score > candidate.score + 1e-9] + [candidate]
        problem = replace(problem, params=candidate.cost.params - 1)


def random_paths(problem: AssemblyProblem, count: int, seed: int) -> list[Path]:
    """Distinct feasible candidates drawn uniformly, fewer if there are fewer within 100 tries each."""
    generator = np.random.default_rng(seed)
    found: list[Path] = []
    for _ in range(100 * count):
        path = tuple(int(m) for m in generator.integers(len(problem.names), size=len(problem.blocks)))
        if len(found) < count and path not in found and problem.feasible(path):
            found.append(path)
    return found


def _model(problem: AssemblyProblem) -> Any:
    """x[k, m]: set k takes network m's block; y[k, m, n]: a stitch from m to n follows; used[m]: m is a source."""
    sets, networks = range(len(problem.blocks)), range(len(problem.names))
    model = cast(Any, pyo.ConcreteModel())
    model.x = pyo.Var(sets, networks, domain=pyo.Binary)
    model.y = pyo.Var(sets[:-1], networks, networks, domain=pyo.NonNegativeReals, bounds=(0, 1))
    model.used = pyo.Var(networks, domain=pyo.Binary)
    model.one = pyo.Constraint(sets, rule=lambda b, k: sum(b.x[k, m] for m in networks) == 1)
    model.out = pyo.Constraint(
        sets[:-1], networks, rule=lambda b, k, m: sum(b.y[k, m, n] for n in networks) == b.x[k, m]
    )
    model.into = pyo.Constraint(
        sets[:-1], networks, rule=lambda b, k, n: sum(b.y[k, m, n] for m in networks) == b.x[k + 1, n]
    )
    model.source = pyo.Constraint(networks, rule=lambda b, m: b.used[m] <= sum(b.x[k, m] for k in sets))
    model.sources = pyo.Constraint(rule=lambda b: sum(b.used[m] for m in networks) >= problem.min_sources)
    model.excluded = pyo.ConstraintList()
    for kind, limit in (("params", problem.params), ("macs", problem.macs)):
        if limit is not None:
            model.add_component(f"{kind}_budget", pyo.Constraint(expr=_total(problem, model, kind) / limit <= 1))
    model.score = pyo.Objective(
        rule=lambda b: sum(float(problem.scores[i]) * b.y[i] for i in np.ndindex(problem.scores.shape)),
        sense=pyo.maximize,
    )
    return model


def _total(problem: AssemblyProblem, model: Any, kind: str) -> Any:
    """The cost of the chosen candidate, `params` or `macs`, as a linear expression."""
    terms = [getattr(c, kind) * model.x[k, m] for k, row in enumerate(problem.blocks) for m, c in enumerate(row)]
    last = len(problem.blocks) - 1
    terms += [getattr(c, kind) * model.x[last, m] for m, c in enumerate(problem.heads)]
    for k, table in enumerate(problem.stitches):
        terms += [
            getattr(c, kind) * model.y[k, m, n] for m, row in enumerate(table) for n, c in enumerate(row) if m != n
        ]
    return sum(terms)


def _path(model: Any) -> Path:
    chosen = {k: m for (k, m), variable in model.x.items() if variable.value > 0.5}
    return tuple(chosen[k] for k in sorted(chosen))


def _infeasible(problem: AssemblyProblem) -> str:
    """Names each budget with the smallest value that some candidate reaches while the other one holds."""
    lines = []
    for kind in ("params", "macs"):
        limit = getattr(problem, kind)
        model = _model(replace(problem, **{kind: None}))
        model.score.deactivate()
        model.smallest = pyo.Objective(expr=_total(problem, model, kind))
        solution = program.solve(model)
        if limit is not None and solution.objective is not None:
            lines.append(
                f"assembly.budget.{kind} = {limit:g}: at least {round(solution.objective)} with the other held"
            )
    if not lines:
        return "assembly.budget: no candidate meets these budgets, nor either of them alone; raise both"
    return "no candidate meets the budgets: " + ", or ".join(lines)
