"""Why no candidate meets the budgets, and what would have to give."""

from dataclasses import replace
from math import ceil

import numpy as np

from ...base.errors import BrickyardError
from . import search
from .problem import KINDS, AssemblyProblem, Candidate, Kind, Table
from .unrolled import unroll

UNITS = {"params": "", "macs": " MACs", "memory": " bytes", "latency": " ms"}


def explain(problem: AssemblyProblem) -> BrickyardError:
    """One line: the budgets that bind, and for each the smallest feasible value, the other ones held.

    Where no budget alone is to blame, the smallest value of each by itself, the other ones lifted.
    """
    problem = unroll(problem)
    limited: list[Kind] = [kind for kind in KINDS if kind in problem.limits]
    held: dict[Kind, float | None] = {kind: smallest(problem, kind) for kind in limited}
    if any(value is not None for value in held.values()):
        lines = [_line(problem, kind, value) for kind, value in held.items() if value is not None]
        others = " with the other budgets held" if len(limited) > 1 else ""
        return BrickyardError(f"no candidate meets the budgets: {', or '.join(lines)}{others}")
    alone: dict[Kind, float | None] = {kind: smallest(replace(problem, limits={kind: 0.0}), kind) for kind in limited}
    lines = [_line(problem, kind, value) for kind, value in alone.items() if value is not None]
    if not lines:
        return BrickyardError(
            "no candidate has the sources that are asked for: see min_sources, max_sources, include, exclude and "
            "licences of assembly"
        )
    return BrickyardError(
        f"no candidate meets the budgets, whichever one of them is lifted; each by itself: {', '.join(lines)}"
    )


def smallest(problem: AssemblyProblem, kind: Kind) -> float | None:
    """The least that a feasible candidate needs of one kind, all other limits held; None where none is feasible."""
    others: dict[Kind, float] = {other: limit for other, limit in problem.limits.items() if other != kind}
    if kind == "memory":
        return _smallest_memory(problem, others)
    problem = unroll(problem)
    table = problem.costs[kind]
    cheapest = replace(problem, scores=Table(-table.blocks, -table.stitches), limits=others)
    found = _first(cheapest)
    return None if found is None else found.cost[kind]


def _smallest_memory(problem: AssemblyProblem, others: dict[Kind, float]) -> float | None:
    """By bisection over the values that occur: whether a candidate exists is monotone in the limit."""
    table = problem.costs["memory"]
    values = np.unique(np.concatenate([table.blocks.ravel(), table.stitches.ravel()])).tolist()
    low, high = 0, len(values)
    while low < high:
        middle = (low + high) // 2
        if _first(replace(problem, limits={**others, "memory": values[middle]})) is None:
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


def _line(problem: AssemblyProblem, kind: Kind, value: float) -> str:
    shown = f"{ceil(1e3 * value) / 1e3:g}" if kind == "latency" else f"{value:.0f}"
    return f"assembly.budget.{kind} = {problem.limits[kind]:g}: at least {shown}{UNITS[kind]}"
