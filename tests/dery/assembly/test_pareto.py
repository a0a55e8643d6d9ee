"""Pareto sweeps and smallest feasible budgets against brute force."""

from dataclasses import replace

import numpy as np
import pytest

from lib.dery.assembly import feasibility, pareto
from lib.dery.assembly.problem import KINDS, AssemblyProblem, Kind, Table
from lib.dery.assembly.propose import propose
from lib.errors import BrickyardError
from tests.dery.assembly.instances import feasible, instance


def _lifted(problem: AssemblyProblem, kind: Kind) -> AssemblyProblem:
    return replace(problem, limits={other: limit for other, limit in problem.limits.items() if other != kind})


@pytest.mark.parametrize("kind", KINDS)
def test_the_frontier_is_what_nothing_beats(kind: Kind) -> None:
    longest = 0
    for seed in range(60):
        problem = _lifted(instance(seed), kind)
        points = {(problem.score(path), problem.cost(path, kind)) for path in feasible(problem)}
        best = {(s, c) for s, c in points if not any((t >= s and d < c) or (t > s and d <= c) for t, d in points)}
        front = pareto.frontier(instance(seed), kind)
        assert [(c.score, c.cost[kind]) for c in front] == sorted(best), seed
        assert all(problem.feasible(c.path) for c in front)
        longest = max(longest, len(front))
    assert longest >= 4


def test_many_labels_are_thinned_in_chunks_as_all_at_once() -> None:
    generator = np.random.default_rng(0)
    scores, costs = generator.integers(0, 30, 900) / 4.0, generator.integers(0, 30, (900, 2)) * 1.0
    front = pareto._nondominated(pareto.Front(scores, costs, np.arange(900)[:, None]))
    rows = [(-s, *c) for s, c in zip(scores.tolist(), costs.tolist(), strict=True)]
    best = {a for a in rows if not any(b != a and all(y <= x for x, y in zip(a, b, strict=True)) for b in rows)}
    found = [(-s, *c) for s, c in zip(front.scores.tolist(), front.costs.tolist(), strict=True)]
    assert len(found) == len(best)
    assert set(found) == best


@pytest.mark.parametrize("kind", KINDS)
def test_the_smallest_feasible_value(kind: Kind) -> None:
    for seed in range(80):
        problem = instance(seed)
        if kind in problem.limits:
            lifted = _lifted(problem, kind)
            values = [lifted.cost(path, kind) for path in feasible(lifted)]
            assert feasibility.smallest(problem, kind) == (min(values) if values else None), seed


def _two(limits: dict[Kind, float]) -> AssemblyProblem:
    """Two sets; blocks of one network cost 10 params and 5 MACs, of the other 1 and 50; a stitch costs 2 of each."""
    stitch = 2 * (1 - np.eye(2))[None]
    costs: dict[Kind, Table] = {
        "params": Table(np.array([[10, 1], [10, 1]]), stitch),
        "macs": Table(np.array([[5, 50], [5, 50]]), stitch),
        "latency": Table(np.full((2, 2), 1.23456), 0 * stitch),
    }
    return AssemblyProblem(("big", "small"), Table(np.zeros((2, 2)), 0 * stitch), costs, limits, min_sources=2)


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"params": 12.0}, r"no candidate meets the budgets: assembly\.budget\.params = 12: at least 13$"),
        ({"params": 12.0, "macs": 60.0}, r"params = 12: at least 13 with the other budgets held$"),
        (
            {"params": 12.0, "macs": 50.0},
            r"whichever one .* lifted; .*params = 12: at least 13, .*macs = 50: at least 57 MACs",
        ),
        ({"latency": 2.0}, r"latency = 2: at least 2\.47 ms$"),
    ],
)
def test_an_infeasible_budget_is_named_with_its_smallest_value(limits: dict[Kind, float], message: str) -> None:
    with pytest.raises(BrickyardError, match=message):
        propose(_two(limits), 5, 1)


def test_either_of_two_budgets_may_be_raised() -> None:
    problem = replace(_two({"params": 12.0, "macs": 50.0}), min_sources=1)
    with pytest.raises(
        BrickyardError, match=r"params = 12: at least 20, or .*macs = 50: at least 100 MACs with the oth"
    ):
        propose(problem, 5, 1)


def test_no_sources_at_all_is_not_called_a_matter_of_budgets() -> None:
    stitches = np.zeros((1, 2, 2))
    memory = Table(np.array([[5, 5], [5, 5]]), stitches)
    problem = AssemblyProblem(("a", "b"), Table(np.zeros((2, 2)), stitches), {"memory": memory}, {"memory": 4})
    with pytest.raises(BrickyardError, match=r"assembly\.budget\.memory = 4: at least 5 bytes"):
        propose(problem, 1, 1)
    impossible = replace(problem, limits={}, min_sources=3)
    with pytest.raises(BrickyardError, match="no candidate has the sources"):
        propose(impossible, 1, 1)
