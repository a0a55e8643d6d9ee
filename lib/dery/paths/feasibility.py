"""Why no candidate meets the budgets, and what would have to give."""

from collections.abc import Callable
from dataclasses import replace
from math import ceil, floor

import numpy as np

from ...base.errors import BrickyardError
from . import search
from .problem import AssemblyProblem, Candidate
from .tables import KINDS, Kind, Table
from .unrolled import unroll

UNITS = {"params": "", "macs": " MACs", "memory": " bytes", "latency": " ms"}


def explain(problem: AssemblyProblem) -> BrickyardError:
    """One line: the budgets that bind, and for each the nearest value that a candidate reaches, the other ones held.

    Where no budget alone is to blame, the nearest value of each by itself, the other ones lifted.
    """
    problem = unroll(problem)
    lines = _lines(problem, problem)
    if lines:
        others = " with the other budgets held" if len(problem.limits) + len(problem.at_least) > 1 else ""
        return BrickyardError(f"no candidate meets the budgets: {', or '.join(lines)}{others}")
    lines = _lines(problem, replace(problem, limits={}, at_least={}))
    if not lines:
        return BrickyardError(
            "no candidate has the sources that are asked for: see min_sources, max_sources, max_stitches, include, "
            "exclude and licences of assembly"
        )
    return BrickyardError(
        f"no candidate meets the budgets, whichever one of them is lifted; each by itself: {', '.join(lines)}"
    )


def smallest(problem: AssemblyProblem, kind: Kind) -> float | None:
    """The least that a feasible candidate needs of one kind, all limits but the upper one on it held; None where none
    is feasible.
    """
    held = replace(problem, limits={other: limit for other, limit in problem.limits.items() if other != kind})
    if kind == "memory":
        values = _values(problem.costs["memory"])
        return _first_that(values, lambda v: replace(held, limits={**held.limits, "memory": v}))
    held = unroll(held)
    table = held.costs[kind]
    found = _first(replace(held, scores=Table(-table.blocks, -table.stitches)))
    return None if found is None else -found.score


def largest(problem: AssemblyProblem, kind: Kind) -> float | None:
    """The most that a feasible candidate needs of one kind, all limits but the lower one on it held; None where none is
    feasible.
    """
    held = replace(problem, at_least={other: least for other, least in problem.at_least.items() if other != kind})
    if kind == "memory":
        values = _values(problem.costs["memory"])[::-1]
        return _first_that(values, lambda v: replace(held, at_least={**held.at_least, "memory": v}))
    held = unroll(held)
    found = _first(replace(held, scores=held.at_cheapest.costs[kind]))
    return None if found is None else found.score


def _values(table: Table) -> list[float]:
    """All that occur, in ascending order."""
    return np.unique(np.concatenate([table.blocks.ravel(), table.stitches.ravel()])).tolist()


def _first_that(values: list[float], limited: Callable[[float], AssemblyProblem]) -> float | None:
    """The first value with which the problem has a candidate, by bisection: from there on it has one."""
    low, high = 0, len(values)
    while low < high:
        middle = (low + high) // 2
        if _first(limited(values[middle])) is None:
            low = middle + 1
        else:
            high = middle
    return values[low] if low < len(values) else None


def _first(problem: AssemblyProblem) -> Candidate | None:
    """The best candidate, None where there is none; raises BrickyardError where the search ends without an answer."""
    pool = search.best(problem, 1)
    if pool.candidates:
        return pool.candidates[0]
    if not pool.complete:
        raise BrickyardError(f"no candidate within the budgets was found: {pool.status}; loosen assembly.budget")
    return None


def _lines(problem: AssemblyProblem, held: AssemblyProblem) -> list[str]:
    """What each limit of `problem` would have to be for `held` to have a candidate, of those where it can be said."""
    found: list[str] = []
    for lower, limits in ((False, problem.limits), (True, problem.at_least)):
        for kind, given in sorted(limits.items(), key=lambda one: KINDS.index(one[0])):
            value = largest(held, kind) if lower else smallest(held, kind)
            if value is not None:
                shown = _milliseconds(value, lower) if kind == "latency" else f"{value:.0f}"
                where, may = (f"at_least.{kind}", "at most") if lower else (kind, "at least")
                found.append(f"assembly.budget.{where} = {given:g}: {may} {shown}{UNITS[kind]}")
    return found


def _milliseconds(value: float, lower: bool) -> str:
    """Three digits at most behind the point, rounded to where a candidate still keeps the limit: a lower one down, an
    upper one up.
    """
    return f"{(floor if lower else ceil)(1e3 * value) / 1e3:.3f}".rstrip("0").rstrip(".")
