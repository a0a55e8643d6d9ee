"""Integer programs: Pyomo models solved by HiGHS, stopped by gap and never by the clock."""

from dataclasses import dataclass
from typing import Any, Literal

import pyomo.environ as pyo
from pyomo.contrib.solver.common.factory import SolverFactory
from pyomo.contrib.solver.common.results import TerminationCondition


@dataclass(frozen=True)
class Solution:
    """status; objective of the best solution found and the proven bound on it, None when infeasible."""

    status: Literal["optimal", "infeasible"]
    objective: float | None
    bound: float | None


def solve(model: pyo.ConcreteModel, gap: float = 0.0) -> Solution:
    """Solves `model` until the relative gap between bound and objective is `gap`, 0 being proven optimality.

    The solution is left in the model's variables.
    """
    solver: Any = SolverFactory("highs")
    options = {"threads": 1, "random_seed": 0, "mip_rel_gap": gap, "mip_abs_gap": 1e-9}
    results = solver.solve(
        model, load_solutions=False, raise_exception_on_nonoptimal_result=False, solver_options=options
    )
    if results.termination_condition in (
        TerminationCondition.provenInfeasible,
        TerminationCondition.infeasibleOrUnbounded,
    ):
        return Solution("infeasible", None, None)
    if results.termination_condition != TerminationCondition.convergenceCriteriaSatisfied:
        raise RuntimeError(f"HiGHS stopped with {results.termination_condition}")
    results.solution_loader.load_vars()
    return Solution("optimal", float(results.incumbent_objective), float(results.objective_bound))
