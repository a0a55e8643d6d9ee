"""Pareto sweeps and smallest feasible budgets against brute force."""

from dataclasses import replace

import numpy as np
import pytest

from lib.base.errors import BrickyardError
from lib.dery.paths import feasibility, pareto
from lib.dery.paths.problem import AssemblyProblem
from lib.dery.paths.propose import propose
from lib.dery.paths.tables import KINDS, Kind, Table
from tests.dery.paths.instances import cut, feasible, instance, path_of, sharing


def _lifted(problem: AssemblyProblem, kind: Kind) -> AssemblyProblem:
    return replace(problem, limits={other: limit for other, limit in problem.limits.items() if other != kind})


@pytest.mark.parametrize("kind", KINDS)
def test_the_frontier_is_what_nothing_beats(kind: Kind) -> None:
    longest = 0
    for seed in range(30):
        problem = _lifted(instance(seed), kind)
        points = {(problem.score(path), problem.cost(path, kind)) for path in feasible(problem)}
        best = {(s, c) for s, c in points if not any((t >= s and d < c) or (t > s and d <= c) for t, d in points)}
        front = pareto.frontier(instance(seed), kind)
        assert [(c.score, c.cost[kind]) for c in front] == sorted(best), seed
        assert all(problem.feasible(path_of(c)) for c in front)
        longest = max(longest, len(front))
    assert longest >= 4


@pytest.mark.parametrize("kind", KINDS)
def test_the_frontier_counts_what_blocks_share_once_a_run(kind: Kind) -> None:
    for seed in range(12):
        problem = _lifted(sharing(seed)[0], kind)
        points = {(problem.score(path), problem.cost(path, kind)) for path in feasible(problem)}
        best = {(s, c) for s, c in points if not any((t >= s and d < c) or (t > s and d <= c) for t, d in points)}
        front = pareto.frontier(sharing(seed)[0], kind)
        assert [(c.score, c.cost[kind]) for c in front] == sorted(best), seed
        assert all(problem.feasible(path_of(c)) for c in front)


@pytest.mark.parametrize("kinds", [1, 2, 3])
def test_many_labels_are_thinned_state_by_state_as_by_comparing_all(kinds: int) -> None:
    generator = np.random.default_rng(0)
    count = 1200
    scores, costs = generator.integers(0, 30, count) / 4.0, generator.integers(0, 30, (count, kinds)) * 1.0
    states = np.minimum(generator.integers(0, 40, (count, 2)), 5).astype(np.uint64)  # one is large, many are small
    found = pareto.nondominated(scores, costs, states)
    rows = np.column_stack([-scores, costs])
    no_worse = (rows[:, None] <= rows[None]).all(2) & (states[:, None] == states[None]).all(2)
    equal = no_worse & no_worse.T
    first = np.arange(count)[:, None] < np.arange(count)[None]
    beaten = (no_worse & (~equal | first)).any(0)
    assert found.tolist() == np.flatnonzero(~beaten).tolist()
    assert np.bincount(np.unique(states, axis=0, return_inverse=True)[1]).max() > pareto.ROUNDS
    whole = pareto.nondominated(scores, costs)
    assert whole.tolist() == pareto.nondominated(scores, costs, np.zeros((count, 1), np.uint64)).tolist()


def test_more_networks_than_bits_of_a_word() -> None:
    small = replace(instance(5), limits={}, required=frozenset(), excluded=frozenset(), max_sources=None)
    networks = len(small.names)
    places = np.append(np.arange(networks - 1), 69)  # of the same networks among 70, the last beyond the 64th
    names = [f"m{m}" for m in range(70)]

    def spread(table: Table) -> Table:
        blocks, stitches = np.zeros((small.sets, 70)), np.zeros((small.sets - 1, 70, 70))
        blocks[:, places] = table.blocks
        stitches[:, places[:, None], places] = table.stitches
        return Table(blocks, stitches)

    others = frozenset(range(70)) - frozenset(places.tolist())
    costs = {kind: spread(table) for kind, table in small.costs.items()}
    large = replace(small, blocks=cut(names, small.sets), scores=spread(small.scores), costs=costs, excluded=others)
    for kind in KINDS:
        expected = [tuple(places[list(path_of(c))].tolist()) for c in pareto.frontier(small, kind)]
        assert [path_of(c) for c in pareto.frontier(large, kind)] == expected
        assert expected


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
    return AssemblyProblem(cut(["big", "small"], 2), Table(np.zeros((2, 2)), 0 * stitch), costs, limits, min_sources=2)


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
    problem = AssemblyProblem(cut(["a", "b"], 2), Table(np.zeros((2, 2)), stitches), {"memory": memory}, {"memory": 4})
    with pytest.raises(BrickyardError, match=r"assembly\.budget\.memory = 4: at least 5 bytes"):
        propose(problem, 1, 1)
    impossible = replace(problem, limits={}, min_sources=3)
    with pytest.raises(BrickyardError, match="no candidate has the sources"):
        propose(impossible, 1, 1)
