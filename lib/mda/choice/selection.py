"""Which network supplies which class within a budget, if every class fared as well as it can: a start and a bound.

The parts are components (MDA), the architect is an integer program (as in DeRy, Eq. 8-11), solved by HiGHS. What
combinations really get is found by `search`.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import pyomo.environ as pyo

from ...base import program
from ...base.errors import BrickyardError
from ...trace.cost import Cost
from . import columns, pairs
from .offers import Problem

COLUMNS = 20_000  # more, and the program pays channel by channel


@dataclass(frozen=True)
class Choice:
    """Which network supplies which classes.

    tasks: source name -> the classes that it supplies.
    accuracy: in percent, what is maximised.
    bound: proven, on that.
    """

    tasks: dict[str, tuple[str, ...]] = field(hash=False)
    accuracy: float
    bound: float
    cost: Cost

    def assignment(self, problem: Problem) -> tuple[int, ...]:
        """For each class of the problem the position of its source."""
        source = {c: name for name, own in self.tasks.items() for c in own}
        names = [one.name for one in problem.sources]
        return tuple(names.index(source[c]) for c in problem.classes)


def choose(problem: Problem) -> Choice:
    """The assignment with the highest `Problem.accuracy` within the budget, of several the one with fewest parameters.

    Raises BrickyardError for a class that no source knows, and where no assignment is within the budget.
    """
    check_known(problem.classes, {source.name: source.accuracy for source in problem.sources})
    found = within(problem)
    if found is None:
        raise BrickyardError(_refusal(problem))
    return found


def check_known(classes: Sequence[str], networks: Mapping[str, Collection[str]]) -> None:
    """Raises BrickyardError for a class that no network knows; networks: by name the classes that they know."""
    for name in classes:
        if not any(name in known for known in networks.values()):
            raise BrickyardError(
                f"lego.choose.classes: none of {', '.join(networks)} knows class {name!r}; "
                "leave it out or add a network that does to lego.choose.models"
            )


def within(problem: Problem) -> Choice | None:
    """As `choose`, None where no assignment is within the limits."""
    model = _model(problem)
    found = _best(problem, model)
    if found is None:
        return None
    bound = found[1]
    model.as_good = pyo.Constraint(expr=model.accuracy.expr >= problem.accuracy(found[0]) - 1e-6)
    model.accuracy.deactivate()
    model.cheap = pyo.Objective(expr=_total(model, "params") / problem.scale("params"))
    cheapest = _best(problem, model)
    assignment = found[0] if cheapest is None else cheapest[0]
    return Choice(problem.tasks(assignment), problem.accuracy(assignment), bound, problem.cost(assignment))


def _model(problem: Problem) -> Any:
    """The program with its limits; its objective is `accuracy`."""
    few = problem.is_listed or columns.count(problem) <= COLUMNS
    model = (columns if few else pairs).model(problem)
    for kind, limit in problem.limits.items():
        within = pyo.Constraint(expr=_total(model, kind) / limit <= 1)
        model.add_component(f"{kind}_budget", within)
    if problem.most is not None:
        model.few = pyo.Constraint(expr=model.used <= problem.most)
    return model


def _total(model: Any, kind: str) -> Any:
    return sum(getattr(cost, kind) * paid for cost, paid in model.costs)


def _best(problem: Problem, model: Any) -> tuple[list[int], float] | None:
    """The optimum and the bound; what keeps a limit only within HiGHS's tolerance is excluded."""
    while (solution := program.solve(model)).status != "infeasible":
        chosen = {c: m for (c, m), share in model.x.items() if cast(float, pyo.value(share)) > 0.5}
        assignment = [chosen[name] for name in problem.classes]
        if problem.cost(assignment).within(**problem.limits):
            return assignment, float(cast(float, solution.bound))
        model.excluded.add(sum(model.x[key] for key in chosen.items()) <= len(chosen) - 1)
    return None


def _refusal(problem: Problem) -> str:
    """One line that says what to change where no assignment is within the budget."""
    least = {}
    for kind in ("params", "macs"):
        free = Problem(problem.classes, problem.sources, least=problem.least)
        model = _model(free)
        model.accuracy.deactivate()
        model.cheap = pyo.Objective(expr=_total(model, kind) / free.scale(kind))
        found = _best(free, model)
        if found is None:
            sized = ", or have no component of components.size with them" if problem.is_listed else ""
            return (
                f"lego.choose.least = {problem.least}: networks know too few of the classes to supply so many{sized}; "
                "lower it"
            )
        least[kind] = getattr(free.cost(found[0]), kind)
    short = [kind for kind, limit in problem.limits.items() if limit < least[kind]] or list(problem.limits)
    wanted = " and ".join(
        f"{kind} = {problem.limits[kind]:,.0f} (with all else free, the least is {least[kind]:,})" for kind in short
    )
    cheaper = "lower components.size" if problem.is_listed else "contributions' thresholds"
    return f"lego.choose.budget: no choice of components is within {wanted}; raise it, or {cheaper}"
