"""The integer program against brute force on random instances."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from lib.cost import Cost
from lib.dery.assembly import AssemblyProblem, pareto, random_paths, solve
from lib.errors import BrickyardError


def _problem(seed: int, networks: int = 4, sets: int = 3) -> AssemblyProblem:
    generator = np.random.default_rng(seed)

    def price() -> Cost:
        return Cost(*(int(v) for v in generator.integers(1, 100, size=2)))

    apart = 1 - np.eye(networks)
    return AssemblyProblem(
        names=tuple(f"m{i}" for i in range(networks)),
        blocks=tuple(tuple(price() for _ in range(networks)) for _ in range(sets)),
        stitches=tuple(
            tuple(tuple(price() if m != n else Cost() for n in range(networks)) for m in range(networks))
            for _ in range(sets - 1)
        ),
        heads=tuple(price() for _ in range(networks)),
        scores=-generator.random((sets - 1, networks, networks)) * apart,
        params=330,
        macs=360,
        min_sources=2,
    )


def _all(problem: AssemblyProblem) -> list[tuple[int, ...]]:
    paths = product(range(len(problem.names)), repeat=len(problem.blocks))
    return sorted((p for p in paths if problem.feasible(p)), key=problem.score, reverse=True)


@pytest.mark.parametrize("seed", range(8))
def test_the_pool_is_the_best_of_all_feasible_paths(seed: int) -> None:
    problem = _problem(seed)
    expected = _all(problem)[:5]
    pool = solve(problem, 5)
    assert [c.score for c in pool.candidates] == pytest.approx([problem.score(p) for p in expected])
    assert all(problem.feasible(c.path) and c.cost == problem.cost(c.path) for c in pool.candidates)
    assert pool.bound == pytest.approx(pool.candidates[0].score, abs=1e-6)


def test_fewer_candidates_than_asked_for_is_said() -> None:
    problem = replace(_problem(0), params=230)
    count = len(_all(problem))
    assert 0 < count < 60
    pool = solve(problem, 60)
    assert len(pool.candidates) == count
    assert f"{count} candidates" in pool.status


def test_an_unmodified_source_is_not_a_candidate() -> None:
    problem = replace(_problem(1), params=None, macs=None)
    assert solve(problem, 1).candidates[0].score < 0
    assert solve(replace(problem, min_sources=1), 1).candidates[0].score == 0


@pytest.mark.parametrize("seed", range(4))
def test_pareto_is_what_nothing_beats(seed: int) -> None:
    problem = replace(_problem(seed), params=None)
    points = {(problem.score(p), problem.cost(p).params) for p in _all(problem)}
    best = {(s, c) for s, c in points if not any((t >= s and d < c) or (t > s and d <= c) for t, d in points)}
    assert {(round(c.score, 9), c.cost.params) for c in pareto(problem)} == {(round(s, 9), c) for s, c in best}


def test_an_infeasible_budget_is_named_with_its_smallest_value() -> None:
    problem = replace(_problem(2), params=10, macs=None)
    smallest = min(problem.cost(p).params for p in _all(replace(problem, params=None)))
    with pytest.raises(BrickyardError, match=rf"assembly\.budget\.params = 10: at least {smallest} "):
        solve(problem, 1)


def test_random_paths_are_feasible_distinct_and_repeatable() -> None:
    problem = _problem(3)
    paths = random_paths(problem, 6, seed=5)
    assert paths == random_paths(problem, 6, seed=5)
    assert len(set(paths)) == len(paths) == 6
    assert all(problem.feasible(path) for path in paths)
