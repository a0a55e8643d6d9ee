"""The same problem as an integer program (DeRy, Eq. 8-11), solved by HiGHS: an independent certificate of the search.

It is also where to put what a search over additive scores cannot take: nonlinear or pairwise terms are further
expressions and constraints on the variables of `model`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pyomo.environ as pyo

from ...base import program
from ...base.errors import BrickyardError
from .problem import AssemblyProblem, Candidate, Pool
from .tables import Columns, Table
from .unrolled import rolled, unroll

TOLERANCE = 1e-6  # of HiGHS on objectives and constraints


@dataclass(frozen=True)
class Certificate:
    """objective: of the best candidate that the integer program found, None where there is none; bound: proven."""

    objective: float | None
    bound: float | None


def certify(problem: AssemblyProblem, pool: Pool) -> Certificate:
    """Solves the integer program and holds the first candidate of `pool` against it.

    Raises BrickyardError when they disagree, which no input may cause: one of the two is wrong.
    """
    proven = first(problem)
    best = pool.candidates[0].score if pool.candidates else None
    if best is None or proven.objective is None or proven.bound is None:
        agree = (best is None and proven.objective is None) or not pool.complete
    else:
        agree = abs(best - proven.objective) <= TOLERANCE and best <= proven.bound + TOLERANCE
    if not agree:
        raise BrickyardError(
            f"the search and HiGHS disagree on the best candidate: {best} and {proven.objective}, "
            f"bound {proven.bound}; please report this with params.yaml and partition.json"
        )
    return proven


def first(problem: AssemblyProblem) -> Certificate:
    """The best candidate's score by the integer program, and the proven bound on it."""
    problem = unroll(problem)
    found = _next(problem, model(problem))
    return Certificate(None, None) if found is None else Certificate(problem.score(found[0]), found[1])


def pool_by_cuts(problem: AssemblyProblem, count: int, apart: int = 0) -> Pool:
    """The `count` best candidates, each by an integer program that excludes those before it, and those that have blocks
    of other networks than them at less than `apart` places: slow, for comparison.
    """
    unrolled = unroll(problem)
    own = model(unrolled)
    found: list[Columns] = []
    while len(found) < count and (solved := _next(unrolled, own)) is not None:
        found.append(solved[0])
        alike = np.array(unrolled.networks if apart else unrolled.origins)
        _exclude(own, [np.flatnonzero(alike == alike[m]).tolist() for m in solved[0]], max(1, apart))
    return Pool(tuple(Candidate.of(problem, rolled(unrolled, path, problem)) for path in found), "optimal")


def model(problem: AssemblyProblem) -> Any:
    """x[k, m]: set k takes network m's block; y[k, m, n]: n follows m behind set k; used[m]: m is a source.

    Of a problem that `unroll` gave, m and n are columns, but in `used`.
    """
    sets, networks, sources = range(problem.sets), range(problem.choices), sorted(set(problem.networks))
    most = len(sources) if problem.max_sources is None else problem.max_sources
    model = cast(Any, pyo.ConcreteModel())
    model.x = pyo.Var(sets, networks, domain=pyo.Binary)
    model.y = pyo.Var(sets[:-1], networks, networks, domain=pyo.NonNegativeReals, bounds=(0, 1))
    model.used = pyo.Var(sources, domain=pyo.Binary)
    model.one = pyo.Constraint(sets, rule=lambda b, k: sum(b.x[k, m] for m in networks) == 1)
    model.out = pyo.Constraint(
        sets[:-1], networks, rule=lambda b, k, m: sum(b.y[k, m, n] for n in networks) == b.x[k, m]
    )
    model.into = pyo.Constraint(
        sets[:-1], networks, rule=lambda b, k, n: sum(b.y[k, m, n] for m in networks) == b.x[k + 1, n]
    )
    own = {m: [column for column in networks if problem.networks[column] == m] for m in sources}
    model.source = pyo.Constraint(
        sources, rule=lambda b, m: b.used[m] <= sum(b.x[k, column] for k in sets for column in own[m])
    )
    model.counted = pyo.Constraint(sets, networks, rule=lambda b, k, m: b.x[k, m] <= b.used[problem.networks[m]])
    model.sources = pyo.Constraint(
        rule=lambda b: pyo.inequality(problem.min_sources, sum(b.used[m] for m in sources), most)
    )
    _fix(problem, model)
    for one in problem.ceilings:
        total = _total(problem, model, one.table)
        name = f"{one.kind}_at_least" if one.lower else f"{one.kind}_budget"
        model.add_component(name, pyo.Constraint(expr=total / abs(one.most) <= (-1 if one.lower else 1)))
    model.excluded = pyo.ConstraintList()
    model.score = pyo.Objective(expr=_total(problem, model, problem.scores), sense=pyo.maximize)
    return model


def _fix(problem: AssemblyProblem, model: Any) -> None:
    """What is decided beforehand: required networks, and blocks and stitches that may not be taken."""
    for m in problem.required:
        model.used[m].fix(1)
    for k, m in np.argwhere(~problem.open_blocks).tolist():
        model.x[k, m].fix(0)
    for k, m, n in np.argwhere(~problem.open_stitches).tolist():
        model.y[k, m, n].fix(0)


def _total(problem: AssemblyProblem, model: Any, table: Table) -> Any:
    """What the chosen candidate adds up to in a table, as a linear expression."""
    terms = [float(table.blocks[i]) * model.x[i] for i in np.ndindex(table.blocks.shape)]
    stitches = [i for i in np.ndindex(table.stitches.shape) if table.stitches[i]]
    return sum(terms) + sum(float(table.stitches[i]) * model.y[i] for i in stitches)


def _next(problem: AssemblyProblem, model: Any) -> tuple[Columns, float] | None:
    """The path of the optimum, and the bound; paths that keep a limit only within HiGHS's tolerance are excluded."""
    while (solution := program.solve(model)).status != "infeasible":
        chosen = {k: m for (k, m), variable in model.x.items() if variable.value > 0.5}
        path = tuple(chosen[k] for k in sorted(chosen))
        if problem.feasible(path):
            return path, float(cast(float, solution.bound))
        _exclude(model, [[m] for m in path], 1)
    return None


def _exclude(model: Any, columns: Sequence[Sequence[int]], apart: int) -> None:
    """Excludes what differs in fewer than `apart` places from a path that has any of `columns[k]` at place k."""
    model.excluded.add(sum(model.x[k, m] for k, own in enumerate(columns) for m in own) <= len(columns) - apart)
