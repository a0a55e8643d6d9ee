"""The search of the authors' code: what it looks at, and how it goes on."""

from math import inf

import numpy as np
import pytest

from lib.dery.paths.exchange import exchange
from lib.dery.paths.problem import AssemblyProblem, Candidate
from lib.dery.paths.tables import Columns, Table
from tests.dery.paths.instances import between, cut, lawful, path_of


def test_every_look_is_at_another_candidate_that_keeps_limits_and_rules() -> None:
    found = 0
    for seed in range(40):
        problem, asked = between(seed), list[Columns]()

        def said(candidate: Candidate, asked: list[Columns] = asked) -> float:
            asked.append(path_of(candidate))
            return candidate.score

        result = exchange(problem, said, 12, seed)
        allowed = lawful(problem)
        assert [path_of(candidate) for candidate, _ in result.evaluated] == asked
        assert len(set(asked)) == len(asked) <= 12
        assert set(asked) <= set(allowed)
        assert all(value == problem.score(path_of(candidate)) for candidate, value in result.evaluated)
        if asked:
            assert result.best is not None
            assert result.best.score == max(problem.score(path) for path in asked)
            found += result.best.score == problem.score(allowed[0])
        else:
            assert result.best is None
        fewer = exchange(problem, said, 5, seed)
        assert fewer.evaluated == result.evaluated[:5]
    assert found > 12  # of 40, many of which have no candidate


def _free(networks: int, sets: int) -> AssemblyProblem:
    zero = Table(np.zeros((sets, networks)), np.zeros((sets - 1, networks, networks)))
    return AssemblyProblem(cut([f"m{m}" for m in range(networks)], sets), zero, {})


def test_a_round_keeps_an_exchange_only_if_it_is_better_than_all_before() -> None:
    """Of 2 sets and 3 networks: from what a round holds, each look changes one block; a new best is held."""
    problem = _free(3, 2)
    worth = {path: float(i) for i, path in enumerate(np.random.default_rng(0).permutation(9).tolist())}
    values: dict[Columns, float] = {(a, b): worth[3 * a + b] for a in range(3) for b in range(3)}
    for seed in range(20):
        result = exchange(problem, lambda candidate: values[path_of(candidate)], 4, seed)  # 2 fill, 4 exchange
        paths = [path_of(candidate) for candidate, _ in result.evaluated]
        if result.rounds > 1:
            continue
        held = paths[0]  # the first that is whole is taken whatever it is worth
        for path in paths[1:]:
            assert sum(a != b for a, b in zip(held, path, strict=True)) == 1
            held = path if values[path] > values[held] else held


def test_what_the_objective_says_nothing_of_comes_last() -> None:
    problem = _free(3, 3)
    said = iter([None, float("nan"), -5.0, -7.0, None, -6.0])
    result = exchange(problem, lambda _: next(said), 6, 0)
    assert [value for _, value in result.evaluated] == [-inf, -inf, -5.0, -7.0, -inf, -6.0]
    assert result.best == result.evaluated[2][0]


@pytest.mark.parametrize("networks", [1, 2])
def test_it_ends_where_nothing_is_new(networks: int) -> None:
    result = exchange(_free(networks, 2), lambda candidate: 0.0, 10**6, 0)
    assert len(result.evaluated) == (0 if networks == 1 else 4)
