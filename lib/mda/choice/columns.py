"""The choice of components as a set partition: a column for every network and set of classes, at its exact price."""

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any, cast

import numpy as np
import pyomo.environ as pyo

from ...trace.cost import Cost
from .offers import Prices, Problem


def count(problem: Problem) -> int:
    """How many columns there would be, those that are too dear or too few classes counted in."""
    return sum(2 ** sum(c in source.accuracy for c in problem.classes) for source in problem.sources)


def model(problem: Problem) -> Any:
    """y[j]: component j is in the assembly; every class is in one, a network lends one at most.

    x[c, m]: network m supplies class c; costs: pairs of a Cost and what it is multiplied with; used: how many networks.
    """
    found = cast(Any, pyo.ConcreteModel())
    columns = [
        (m, classes, cost)
        for m, source in enumerate(problem.sources)
        for classes, cost in _priced(source.prices, [c for c in problem.classes if c in source.accuracy], problem.least)
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


def _priced(prices: Prices, classes: Sequence[str], least: int) -> Iterator[tuple[tuple[str, ...], Cost]]:
    """Every set of `least` classes or more, and what its component costs."""
    bit = {name: 1 << i for i, name in enumerate(classes)}
    needed, paid = list[list[int]](), list[tuple[int, int]]()
    wide = max((len(who) for who in prices), default=1)
    for who, cost in prices.items():
        masks = [sum(bit.get(name, 0) for name in one) for one in sorted(who, key=sorted)]
        if all(masks):
            needed.append([*masks, *masks[:1] * (wide - len(masks))])
            paid.append((cost.params, cost.macs))
    rows, together = np.unique(np.array(needed, dtype=np.int64).reshape(-1, wide), axis=0, return_inverse=True)
    costs = np.zeros((len(rows), 2), dtype=np.int64)
    np.add.at(costs, together.ravel(), np.array(paid, dtype=np.int64).reshape(-1, 2))
    for size in range(max(least, 1), len(classes) + 1):
        for own in combinations(classes, size):
            there = (rows & sum(bit[name] for name in own)).all(1)
            params, macs = costs[there].sum(0).tolist()
            yield own, Cost(params, macs)
