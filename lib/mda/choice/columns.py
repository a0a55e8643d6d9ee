"""The choice of components as a set partition: a column for every network and set of classes, at its exact price."""

from typing import Any, cast

import pyomo.environ as pyo

from ...trace.cost import Cost
from .offers import Problem


def count(problem: Problem) -> int:
    """How many columns there would be, those that are too dear or too few classes counted in."""
    return sum(2 ** len(source.known(problem.classes)) for source in problem.sources)


def model(problem: Problem) -> Any:
    """y[j]: component j is in the assembly; every class is in one, a network lends one at most.

    x[c, m]: network m supplies class c; costs: pairs of a Cost and what it is multiplied with; used: how many networks.
    """
    found = cast(Any, pyo.ConcreteModel())
    columns = [
        (m, classes, cost)
        for m, source in enumerate(problem.sources)
        for classes, cost in source.sets(problem.classes, problem.least)
        if cost.within(**problem.limits)
    ]
    y: Any = pyo.Var(range(len(columns)), domain=pyo.Binary)
    nothing: Any = pyo.Var(bounds=(0, 0))  # with it, sums over no component stay sums
    found.y, found.nothing = y, nothing
    having: dict[tuple[str, int], list[int]] = {}
    for j, (m, classes, _) in enumerate(columns):
        for c in classes:
            having.setdefault((c, m), []).append(j)
    found.x = {key: sum(y[j] for j in own) for key, own in having.items()}
    one, once, excluded = (cast(Any, pyo.ConstraintList()) for _ in range(3))
    found.one, found.once, found.excluded = one, once, excluded
    for name in problem.classes:
        own = [j for (c, _), js in having.items() if c == name for j in js]
        one.add(sum((y[j] for j in own), nothing) == 1)
    for m in range(len(problem.sources)):
        own = [j for j, (source, _, _) in enumerate(columns) if source == m]
        if own:
            once.add(sum(y[j] for j in own) <= 1)
    found.used = pyo.Expression(expr=sum((y[j] for j in range(len(columns))), nothing))
    found.costs = [(Cost(1, 1), nothing), *((cost, y[j]) for j, (_, _, cost) in enumerate(columns))]
    accuracy = {j: sum(problem.sources[m].accuracy[c] for c in own) for j, (m, own, _) in enumerate(columns)}
    mean = sum((value * y[j] for j, value in accuracy.items()), nothing) / len(problem.classes)
    found.accuracy = pyo.Objective(expr=mean, sense=pyo.maximize)
    return found
