"""Lower limits, rules on single blocks, pools of candidates that differ, and sweeps, against brute force."""

from dataclasses import replace
from itertools import combinations, pairwise, product

import numpy as np
import pytest

from lib.base.errors import BrickyardError
from lib.dery.paths import certificate, feasibility, pareto, search, trees
from lib.dery.paths.problem import AssemblyProblem
from lib.dery.paths.propose import propose
from lib.dery.paths.sample import random_candidates
from lib.dery.paths.sweep import sweep
from lib.dery.paths.tables import KINDS, Columns, Kind, Table
from tests.dery.paths.instances import between, cut, everything, instance, lawful, path_of, spent


@pytest.mark.parametrize("block", range(2))
def test_the_pool_keeps_lower_limits_and_rules_on_blocks(block: int) -> None:
    limited = some = 0
    for seed in range(30 * block, 30 * block + 30):
        problem = between(seed)
        expected = lawful(problem)
        assert [path_of(c) for c in search.best(problem, 10).candidates] == expected[:10], seed
        assert [path for path in everything(problem) if problem.feasible(path)] == sorted(expected)
        limited += bool(problem.at_least and expected and lawful(replace(problem, at_least={})) != expected)
        some += bool((problem.required_blocks or problem.excluded_blocks) and expected)
    assert limited > 4
    assert some > 4


@pytest.mark.parametrize("seed", range(8))
def test_highs_keeps_them(seed: int) -> None:
    problem = between(seed)
    pool = search.best(problem, 3)
    certificate.certify(problem, pool)
    cuts = certificate.pool_by_cuts(problem, 3)
    assert [c.score for c in cuts.candidates] == pytest.approx([c.score for c in pool.candidates], abs=1e-6)
    assert {path_of(c) for c in cuts.candidates} <= set(lawful(problem))


@pytest.mark.parametrize("seed", range(40))
def test_no_candidate_has_more_stitches_than_it_may(seed: int) -> None:
    """In the pool, in the integer program and in every front; with everything else that may limit a candidate."""
    problem = replace(between(seed), max_stitches=1 + seed // 2 % 2)
    expected = lawful(problem)
    pool = search.best(problem, 10)
    assert [path_of(c) for c in pool.candidates] == expected[:10]
    assert [path for path in everything(problem) if problem.feasible(path)] == sorted(expected)
    if seed < 8:
        certificate.certify(problem, pool)
    for kind in ("params", "memory"):
        points = {(problem.score(path), problem.cost(path, kind)) for path in lawful(_without(problem, kind))}
        best = {(s, c) for s, c in points if not any((t >= s and d < c) or (t > s and d <= c) for t, d in points)}
        assert [(c.score, c.cost[kind]) for c in pareto.frontier(problem, kind)] == sorted(best)


def test_a_limit_on_stitches_binds_and_holds_in_each_tail() -> None:
    free = instance(4)
    free = AssemblyProblem(free.blocks, free.scores, free.costs)
    for most in range(1, free.sets):
        problem = replace(free, max_stitches=most)
        paths = {path for path in everything(problem) if problem.feasible(path)}
        assert paths == {path for path in everything(free) if sum(a != b for a, b in pairwise(path)) <= most}
        for path in everything(free):
            assert trees.feasible(problem, [path]) == (path in paths)
    problem = replace(free, max_stitches=1, min_sources=3)
    with pytest.raises(BrickyardError, match="max_stitches = 1: a candidate has 2 sources at most; see min_sources"):
        problem.check()
    with pytest.raises(BrickyardError, match="max_stitches = 1: a candidate has 2 sources at most; see include"):
        replace(problem, min_sources=1, required=frozenset({0, 1, 2})).check()


@pytest.mark.parametrize("kind", KINDS)
def test_fronts_keep_those_of_other_kinds(kind: Kind) -> None:
    limited = 0
    for seed in range(25):
        problem = between(seed)
        lifted = _without(problem, kind)
        points = {(problem.score(path), problem.cost(path, kind)) for path in lawful(lifted)}
        best = {(s, c) for s, c in points if not any((t >= s and d < c) or (t > s and d <= c) for t, d in points)}
        front = pareto.frontier(problem, kind)
        assert [(c.score, c.cost[kind]) for c in front] == sorted(best), seed
        assert {path_of(c) for c in front} <= set(lawful(lifted))
        limited += bool(lifted.at_least and best)
    assert limited > 5


def test_a_front_of_large_costs_ends() -> None:
    """Where the next smaller cost that there could be is no other float."""
    scores, macs = Table(np.array([[1.0, 0.0], [1.0, 0.0]]), np.zeros((1, 2, 2))), np.array([[3e9, 2e9], [3e9, 1e9]])
    costs: dict[Kind, Table] = {
        "macs": Table(macs, np.zeros((1, 2, 2))),
        "params": Table(0 * macs + 1, np.zeros((1, 2, 2))),
    }
    problem = AssemblyProblem(cut(["m0", "m1"], 2), scores, costs, at_least={"params": 2.0})
    assert [path_of(c) for c in pareto.frontier(problem, "macs")] == [(1, 1), (0, 1), (0, 0)]


def _without(problem: AssemblyProblem, kind: Kind, *, upper: bool = True, lower: bool = True) -> AssemblyProblem:
    limits = {other: limit for other, limit in problem.limits.items() if other != kind or not upper}
    least = {other: limit for other, limit in problem.at_least.items() if other != kind or not lower}
    return replace(problem, limits=limits, at_least=least)


@pytest.mark.parametrize("kind", KINDS)
def test_the_nearest_values_that_are_reached(kind: Kind) -> None:
    for seed in range(24):
        problem = between(seed)
        if kind in problem.limits:
            paths = lawful(_without(problem, kind, lower=False))
            expected = min((spent(problem, path, kind) for path in paths), default=None)
            assert feasibility.smallest(problem, kind) == expected, seed
        if kind in problem.at_least:
            paths = lawful(_without(problem, kind, upper=False))
            expected = max((spent(problem, path, kind, cheapest=True) for path in paths), default=None)
            assert feasibility.largest(problem, kind) == expected, seed


def test_what_is_said_of_each_infeasible_problem_makes_it_feasible() -> None:
    told = 0
    for seed in range(16):
        problem = between(seed)
        if lawful(problem):
            continue
        line = str(feasibility.explain(problem))
        assert "\n" not in line
        for kind in KINDS:
            for limits, extreme, name in (
                (problem.limits, feasibility.smallest, "limits"),
                (problem.at_least, feasibility.largest, "at_least"),
            ):
                if kind in limits and (value := extreme(problem, kind)) is not None:
                    assert lawful(replace(problem, **{name: {**limits, kind: value}})), seed  # pyright: ignore[reportArgumentType]
                    assert f"assembly.budget.{'at_least.' * (name == 'at_least')}{kind} = " in line
                    told += 1
    assert told > 4


def _two(limits: dict[Kind, float], at_least: dict[Kind, float]) -> AssemblyProblem:
    """Two sets; blocks of `big` cost 10 params and 5 MACs, of `small` 1 and 50; a stitch 2 of each, 1 at least."""
    stitch = 1 - np.eye(2)[None]
    tables = {"params": np.array([[10, 1], [10, 1]]), "macs": np.array([[5, 50], [5, 50]])}
    costs: dict[Kind, Table] = {kind: Table(tables[kind], 2 * stitch) for kind in ("params", "macs")}
    cheapest: dict[Kind, Table] = {kind: Table(tables[kind], stitch) for kind in ("params", "macs")}
    costs["latency"] = Table(np.full((2, 2), 1.23456), 0 * stitch)
    scores = Table(np.zeros((2, 2)), 0 * stitch)
    return AssemblyProblem(cut(["big", "small"], 2), scores, costs, limits, at_least, cheapest)


@pytest.mark.parametrize(
    ("limits", "at_least", "message"),
    [
        ({}, {"params": 21.0}, r"budgets: assembly\.budget\.at_least\.params = 21: at most 20$"),
        ({}, {"latency": 3.0}, r"at_least\.latency = 3: at most 2\.469 ms$"),
        (
            {"params": 12.0},
            {"params": 3.0},
            r"budget\.params = 12: at least 13, or .*\.at_least\.params = 3: at most 2 with the other budgets held",
        ),
        (
            {"macs": 9.0},
            {"params": 21.0},
            r"each by itself: assembly\.budget\.macs = 9: at least 10 MACs, .*at_least\.params = 21: at most 20$",
        ),
    ],
)
def test_a_lower_limit_that_is_too_high_is_named_with_what_is_reached(
    limits: dict[Kind, float], at_least: dict[Kind, float], message: str
) -> None:
    with pytest.raises(BrickyardError, match=message):
        propose(_two(limits, at_least), 5, 1)


@pytest.mark.parametrize(
    ("needed", "up", "down"),
    [
        (1234.5635, "1234.564", "1234.563"),
        (1000.0, "1000", "1000"),
        (1234567.5, "1234567.5", "1234567.5"),
        (0.0012, "0.002", "0.001"),
        (1200 + 2**-32, "1200.001", "1200"),
    ],
)
def test_the_nearest_latency_that_is_named_is_reached(needed: float, up: str, down: str) -> None:
    latency = Table(np.array([[needed], [0.0]]), np.zeros((1, 1, 1)))
    problem = AssemblyProblem(cut(["m0"], 2), Table(np.zeros((2, 1)), np.zeros((1, 1, 1))), {"latency": latency})
    for key, given, words in (("limits", needed / 2, f"at least {up}"), ("at_least", 2 * needed, f"at most {down}")):
        assert str(feasibility.explain(replace(problem, **{key: {"latency": given}}))).endswith(f": {words} ms")
        named = {"latency": float(words.split()[-1])}
        assert search.best(replace(problem, **{key: named}), 1).candidates


def test_a_lower_limit_holds_for_the_cheapest_form_of_a_stitch() -> None:
    assert len(search.best(_two({}, {"params": 12.0}), 5).candidates) == 3
    assert len(search.best(_two({}, {"params": 13.0}), 5).candidates) == 1
    assert search.best(_two({"params": 13.0}, {"params": 12.0}), 5).candidates[0].cost["params"] == 13


def test_random_candidates_keep_every_limit_and_rule() -> None:
    found = 0
    for seed in range(40):
        problem = between(seed)
        drawn = [path_of(c) for c in random_candidates(problem, 2, seed)]
        assert set(drawn) <= set(lawful(problem))
        found += len(drawn) == 2
    assert found > 8


def test_trees_keep_lower_limits_and_rules_on_blocks() -> None:
    kept = broken = 0
    for seed in range(0, 80, 2):  # nothing shared
        problem = _without(between(seed), "memory")
        problem = replace(
            problem,
            leaving=np.zeros(problem.scores.blocks.shape),
            min_sources=1,
            required=frozenset(),
            max_sources=None,
        )
        paths = lawful(replace(problem, limits={}, at_least={}, required_blocks=frozenset()))[::5][:6]
        for pair in combinations(paths, 2):
            expected = trees.may_join(problem, pair) and _tree_is_lawful(problem, pair)
            assert trees.feasible(problem, pair) == expected, (seed, pair)
            kept, broken = kept + expected, broken + (not expected)
    assert kept > 20
    assert broken > 50


def _tree_is_lawful(problem: AssemblyProblem, paths: tuple[Columns, ...]) -> bool:
    """What several paths begin with counts once; a block that must be there is in one of them."""

    def total(kind: Kind, table: Table) -> float:
        blocks = {path[: k + 1]: table.blocks[k, path[k]] for path in paths for k in range(problem.sets)}
        steps = {p[: k + 1]: table.stitches[k - 1, p[k - 1], p[k]] for p in paths for k in range(1, problem.sets)}
        return sum(blocks.values()) + sum(steps.values())

    places = {place for path in paths for place in enumerate(path)}
    return (
        all(total(kind, problem.costs[kind]) <= limit for kind, limit in problem.limits.items())
        and all(total(k, problem.cheapest.get(k, problem.costs[k])) >= v for k, v in problem.at_least.items())
        and problem.required_blocks <= places
        and not problem.excluded_blocks & places
    )


@pytest.mark.parametrize("apart", [1, 2, 3, 4])
def test_each_of_a_pool_is_the_best_that_differs_from_all_before_it(apart: int) -> None:
    dropped = 0
    for seed in range(40):
        problem = between(seed)
        expected: list[Columns] = []
        for path in lawful(problem):
            if all(sum(a != b for a, b in zip(path, other, strict=True)) >= apart for other in expected):
                expected.append(path)
        pool = search.best(problem, 6, apart=apart)
        assert [path_of(c) for c in pool.candidates] == expected[:6], seed
        if len(expected) < 6 and apart > 1:
            assert pool.status == f"optimal; {len(expected)} candidates meet the budgets and differ in {apart} blocks"
        dropped += expected[:6] != lawful(problem)[:6]
    assert (dropped > 8) == (apart > 1)


def test_forms_of_the_same_blocks_are_one_candidate_unless_told() -> None:
    """Each path of networks in its best affordable form; as the integer program finds them. With 0, all forms."""
    dropped = 0
    for seed in range(10):
        problem = _with_forms(instance(seed), seed)
        paths = [path for path in product(range(problem.choices), repeat=problem.sets) if problem.feasible(path)]
        paths.sort(key=lambda path: (-problem.score(path), path))
        first: dict[Columns, Columns] = {}
        for path in paths:
            first.setdefault(tuple(problem.networks[m] for m in path), path)
        for apart, expected in ((0, paths), (1, list(first.values()))):
            pool = search.best(problem, 6, apart=apart)
            assert [problem.path(one.pick) for one in pool.candidates] == expected[:6], seed
            everything = search.best(problem, len(expected) + 1, apart=apart).status
            differ = " and differ in 1 block" * apart
            assert everything == f"optimal; {len(expected)} candidates meet the budgets{differ}", seed
            if seed < 4:
                cuts = certificate.pool_by_cuts(problem, 4, apart)
                assert [one.pick for one in cuts.candidates] == [one.pick for one in pool.candidates[:4]], seed
        dropped += paths[:6] != list(first.values())[:6]
    assert dropped > 5


def _with_forms(problem: AssemblyProblem, seed: int) -> AssemblyProblem:
    """With each block at half its width, too, and no two paths that score alike."""
    generator, networks = np.random.default_rng(seed), len(problem.names)
    lenders = [*range(networks)] * 2

    def wider(table: Table, less: float) -> Table:
        blocks = np.concatenate([table.blocks, table.blocks * less], 1)
        return Table(blocks, table.stitches[:, lenders][:, :, lenders])

    scores = wider(problem.scores, 1)
    change = generator.random(scores.blocks.shape)
    change[:, networks:] -= 0.2
    return replace(
        problem,
        blocks=tuple((*row, *(replace(block, width=0.5) for block in row)) for row in problem.blocks),
        scores=Table(scores.blocks + change, scores.stitches),
        costs={kind: wider(table, 0.5) for kind, table in problem.costs.items()},
        lenders=tuple(lenders),
    )


@pytest.mark.parametrize("seed", range(8))
def test_highs_finds_candidates_that_differ(seed: int) -> None:
    problem = between(seed)
    generator = np.random.default_rng(seed)
    sums = problem.scores.blocks + generator.random(problem.scores.blocks.shape)  # no two score alike
    problem = replace(problem, scores=Table(sums, problem.scores.stitches))
    cuts, pool = certificate.pool_by_cuts(problem, 4, apart=2), search.best(problem, 4, apart=2)
    assert [path_of(c) for c in cuts.candidates] == [path_of(c) for c in pool.candidates]


def test_fewer_candidates_that_differ_than_ranks_is_an_error() -> None:
    problem = replace(instance(3), limits={}, required=frozenset(), excluded=frozenset(), min_sources=1)
    count = len(search.best(problem, 100, apart=problem.sets).candidates)
    assert count == len(problem.names)
    told = rf"{count} candidates meet the budgets and differ in {problem.sets} blocks .*lower assembly\.differ"
    with pytest.raises(BrickyardError, match=told):
        propose(problem, 20, count + 1, problem.sets)


@pytest.mark.parametrize("kind", KINDS)
def test_a_sweep_finds_what_a_search_under_each_limit_does(kind: Kind) -> None:
    for seed in range(5):
        problem = between(seed)
        values = [problem.cost(path, kind) for path in everything(problem)]
        limits = np.random.default_rng(seed).permutation(np.linspace(min(values) - 1, max(values) + 1, 6)).tolist()
        for count, apart in ((1, 1), (4, 2)):
            found = sweep(problem, kind, [*limits, limits[0]], count, apart)
            each = [
                search.best(replace(problem, limits={**problem.limits, kind: v}), count, apart=apart) for v in limits
            ]
            assert list(found) == [*each, each[0]], seed


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        (
            {"required_blocks": frozenset({(1, 0), (1, 2)})},
            r"include names m0:2, m2:2: no candidate can have .* block 2",
        ),
        ({"required_blocks": frozenset({(0, 1)}), "excluded": frozenset({1})}, r"include names m1:1: no candidate can"),
        (
            {"excluded_blocks": frozenset({(2, 0), (2, 1), (2, 2)})},
            r"assembly\.exclude: no candidate can have .* block 3",
        ),
    ],
)
def test_blocks_that_no_candidate_can_have(rules: dict[str, frozenset[tuple[int, int]]], message: str) -> None:
    zero = Table(np.zeros((3, 3)), np.zeros((2, 3, 3)))
    problem = AssemblyProblem(cut(["m0", "m1", "m2"], 3), zero, {})
    with pytest.raises(BrickyardError, match=message):
        replace(problem, **rules).check()  # pyright: ignore[reportArgumentType]
