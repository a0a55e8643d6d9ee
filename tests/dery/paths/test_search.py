"""The search, its certificate and its controls against brute force on random instances."""

from dataclasses import replace

import numpy as np
import pytest

from lib.base.errors import BrickyardError
from lib.dery.paths import bounds, certificate, feasibility, search
from lib.dery.paths.problem import AssemblyProblem, Pool
from lib.dery.paths.propose import propose
from lib.dery.paths.sample import random_candidates
from lib.dery.paths.tables import Table
from tests.dery.paths.instances import cut, everything, feasible, instance, path_of, sharing


@pytest.mark.parametrize("block", range(4))
def test_the_pool_is_the_best_of_all_feasible_paths_in_order(block: int) -> None:
    empty = 0
    for seed in range(100 * block, 100 * block + 100):
        problem = instance(seed)
        expected = feasible(problem)
        pool = search.best(problem, 10)
        assert [path_of(c) for c in pool.candidates] == expected[:10], seed
        assert all(
            c.score == problem.score(path_of(c)) and c.cost == problem.price(path_of(c)) for c in pool.candidates
        )
        enough = len(expected) >= 10
        assert pool.status == ("optimal" if enough else f"optimal; {len(expected)} candidates meet the budgets")
        empty += not expected
    assert 0 < empty < 50  # both kinds occur


def test_what_blocks_share_counts_once_a_run() -> None:
    apart = limited = 0
    for seed in range(100):
        problem, counted = sharing(seed)
        assert all(problem.cost(path, "params") == spent for path, spent in counted.items()), seed
        expected = feasible(problem)
        assert [path_of(c) for c in search.best(problem, 10).candidates] == expected[:10], seed
        assert all(c.cost == problem.price(path_of(c)) for c in search.best(problem, 10).candidates)
        apart += bool(problem.shared["params"].any())
        limited += "params" in problem.limits and len(expected) > 0
    assert apart > 50
    assert limited > 25


@pytest.mark.parametrize("seed", range(8))
def test_highs_counts_what_blocks_share_once_a_run(seed: int) -> None:
    problem, _ = sharing(seed)
    pool = search.best(problem, 3)
    certificate.certify(problem, pool)
    cuts = certificate.pool_by_cuts(problem, 3)
    assert [c.score for c in cuts.candidates] == pytest.approx([c.score for c in pool.candidates], abs=1e-6)
    assert all(problem.feasible(path_of(c)) for c in cuts.candidates)


def test_the_smallest_budget_counts_what_blocks_share_once_a_run() -> None:
    for seed in range(40):
        problem, counted = sharing(seed)
        others = {kind: limit for kind, limit in problem.limits.items() if kind != "params"}
        paths = feasible(replace(problem, limits=others))
        assert feasibility.smallest(problem, "params") == min((counted[path] for path in paths), default=None)


def test_a_pool_may_hold_everything() -> None:
    problem = replace(instance(3), limits={}, required=frozenset(), excluded=frozenset(), min_sources=1)
    problem = replace(problem, max_sources=None)
    assert [path_of(c) for c in search.best(problem, 10**6).candidates] == feasible(problem)
    assert len(feasible(problem)) == len(problem.names) ** problem.sets


@pytest.mark.parametrize("seed", range(30))
def test_bounds_are_bounds(seed: int) -> None:
    problem = instance(seed)
    plain = bounds.relax(problem, np.zeros(len(problem.ceilings)))
    tight = bounds.tightest(problem)
    assert tight.value <= plain.value
    assert all(problem.score(path) <= tight.value + 1e-9 for path in feasible(problem))


@pytest.mark.parametrize("seed", range(20))
def test_highs_certifies_the_first_candidate_and_finds_the_same_pool(seed: int) -> None:
    problem = instance(seed)
    pool = search.best(problem, 3)
    proven = certificate.certify(problem, pool)
    if not pool.candidates:
        assert proven.objective is None
        return
    assert proven.objective == pytest.approx(pool.candidates[0].score, abs=1e-6)
    cuts = certificate.pool_by_cuts(problem, 3)
    assert [c.score for c in cuts.candidates] == pytest.approx([c.score for c in pool.candidates], abs=1e-6)


def test_a_certificate_that_disagrees_is_an_error() -> None:
    problem = replace(instance(0), limits={})
    pool = search.best(problem, 3)
    assert pool.candidates[2].score < pool.candidates[0].score - 1e-3
    with pytest.raises(BrickyardError, match="the search and HiGHS disagree"):
        certificate.certify(problem, Pool(pool.candidates[2:], "optimal"))
    with pytest.raises(BrickyardError, match="the search and HiGHS disagree"):
        certificate.certify(problem, Pool((), "optimal"))


def test_a_limit_that_holds_within_tolerance_only_is_not_kept() -> None:
    """One MAC too many of 10^8 is within the solver's tolerance."""
    scores = Table(np.array([[1.0, 0.0], [0.0, 0.0]]), np.zeros((1, 2, 2)))
    costs = Table(np.array([[10**8, 1], [1, 0]]), np.zeros((1, 2, 2)))
    problem = AssemblyProblem(cut(["m0", "m1"], 2), scores, {"macs": costs}, {"macs": 10**8})
    assert path_of(search.best(problem, 1).candidates[0]) == (0, 1)
    tight = replace(problem, limits={"macs": 10**8 - 1})
    pool = search.best(tight, 1)
    assert pool.candidates[0].score == certificate.certify(tight, pool).objective == 0


def test_out_of_labels_is_said_and_what_is_there_is_the_best() -> None:
    problem = next(p for p in map(instance, range(100)) if len(feasible(p)) > 40)
    whole, short = search.best(problem, 50), search.best(problem, 50, labels=30)
    assert not short.complete
    assert "stopped after 30 labels" in short.status
    assert short.candidates == whole.candidates[: len(short.candidates)]


def test_an_unmodified_source_is_not_a_candidate_unless_one_source_is_enough() -> None:
    problem = replace(instance(1), limits={}, min_sources=2, max_sources=None)
    problem = replace(
        problem,
        scores=Table(0 * problem.scores.blocks, problem.scores.stitches - 0.1 * (1 - np.eye(len(problem.names)))),
    )
    assert search.best(problem, 1).candidates[0].score < 0
    one = replace(problem, min_sources=1, required=frozenset())
    assert search.best(one, 1).candidates[0].score == 0


def test_fewer_candidates_than_ranks_is_an_error() -> None:
    problem = next(p for p in map(instance, range(100)) if 1 < len(feasible(p)) < 9)
    count = len(feasible(problem))
    assert len(propose(problem, 20, count).pool.candidates) == count
    with pytest.raises(BrickyardError, match=rf"finetune\.ranks asks for r{count + 1}, but {count} candidates meet"):
        propose(problem, 20, count + 1)


def test_random_candidates_are_feasible_distinct_and_begin_with_the_same_ones() -> None:
    problem = next(p for p in map(instance, range(100)) if len(feasible(p)) > 40)
    drawn = random_candidates(problem, 12, seed=5)
    assert len({candidate.pick for candidate in drawn}) == len(drawn) == 12
    assert all(problem.feasible(path_of(candidate)) for candidate in drawn)
    assert all(c.score == problem.score(path_of(c)) and c.cost == problem.price(path_of(c)) for c in drawn)
    assert random_candidates(problem, 6, seed=5) == drawn[:6]
    assert {path_of(c) for c in random_candidates(problem, 300, seed=5)} <= set(everything(problem))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"min_sources": 4}, r"assembly\.min_sources = 4: 2 networks may lend blocks and a candidate has 3; ask for 2"),
        (
            {"required": frozenset({0, 1}), "max_sources": 1},
            r"assembly\.include names 2 networks; .* at most 1 sources",
        ),
        ({"required": frozenset({2})}, r"assembly\.include: m2 is excluded"),
    ],
)
def test_conditions_that_no_choice_of_networks_meets(change: dict[str, object], message: str) -> None:
    zero = Table(np.zeros((3, 3)), np.zeros((2, 3, 3)))
    problem = AssemblyProblem(cut(["m0", "m1", "m2"], 3), zero, {}, excluded=frozenset({2}))
    problem.check()
    with pytest.raises(BrickyardError, match=message):
        replace(problem, **change).check()  # pyright: ignore[reportArgumentType]
