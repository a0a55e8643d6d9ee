"""The choice of components for many classes: what two channels cost together is paid when classes need both."""

from typing import Any, cast

import pyomo.environ as pyo

from .offers import Problem, Source
from .prices import Shared


def model(problem: Problem) -> Any:
    """x[c, m]: network m supplies class c; there[m, S]: the channels that the classes S need are in m's component;
    paid: one of its prices is. Only x is integer: the others follow. used: how many networks.
    """
    found = cast(Any, pyo.ConcreteModel())
    sources = problem.sources
    known = [(c, m) for m, source in enumerate(sources) for c in source.known(problem.classes)]
    x: Any = pyo.Var(known, domain=pyo.Binary)
    variables: Any = pyo.VarList(domain=pyo.NonNegativeReals)
    follow: Any = pyo.ConstraintList()
    found.x, found.variables, found.follow = x, variables, follow
    found.one = pyo.Constraint(
        problem.classes, rule=lambda b, c: sum(b.x[c, m] for m in range(len(sources)) if (c, m) in b.x) == 1
    )
    found.excluded = pyo.ConstraintList()
    there: dict[Any, Any] = {}
    found.costs, found.used = [], 0
    for m, source in enumerate(sources):
        lends = variables.add()
        found.used += lends
        for who, cost in _shared(source).of(problem.classes).parts.items():
            for one in sorted(who, key=sorted):
                if (m, one) not in there:
                    there[m, one] = variables.add()
                    for c in sorted(one):
                        follow.add(there[m, one] >= x[c, m])
            paid = there[m, next(iter(who))]
            if len(who) > 1:
                paid = variables.add()
                follow.add(paid >= sum(there[m, one] for one in who) - len(who) + 1)
                for c in sorted(frozenset.intersection(*who)):
                    follow.add(paid >= x[c, m])
            found.costs.append((cost, paid))
        own = source.known(problem.classes)
        for c in own:
            follow.add(lends >= x[c, m])
            others = sum(x[d, m] for d in own)
            if problem.least > 1:
                follow.add(others >= problem.least * x[c, m])
    mean = sum(sources[m].accuracy[c] * x[c, m] for c, m in known) / len(problem.classes)
    found.accuracy = pyo.Objective(expr=mean, sense=pyo.maximize)
    return found


def _shared(source: Source) -> Shared:
    assert isinstance(source.prices, Shared), "components of one size are priced in columns"
    return source.prices
