"""The solvers of the cover-set partition against brute force over all legal cuts and anchors."""

from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest

from lib.dery.partition import bound as bounding
from lib.dery.partition import kernighan_lin, milp
from lib.dery.partition.cover import PartitionProblem
from lib.dery.partition.solve import Partition, solve
from lib.dery.partition.space import CutSpace
from tests.dery.partition.partitions import brute_force, drawn, legal, problem, worth

SEEDS, SIZES, STARTS = range(8), ("nodes", "params", "macs"), ("input", "first_output")
KINDS = [(solver, bound) for solver in ("dp", "kernighan_lin") for bound in ("none", "relaxation", "exact")]
KINDS += [("milp", "none")]


def _check(made: PartitionProblem, found: Partition) -> None:
    """What holds for every result, whatever the solver."""
    sets = range(made.num_blocks)
    assert found.objective == pytest.approx(sum(worth(made, found.cuts, k, found.anchors[k]) for k in sets), abs=1e-9)
    assert all(cuts in legal(made, m) for m, cuts in enumerate(found.cuts))
    assert found.violations == 0
    assert found.random <= found.objective + 1e-9
    if found.bound is None:
        assert found.gap is None
        assert found.gap_closed is None
    else:
        assert found.bound >= found.objective
        assert 0 <= found.gap_closed <= 100 + 1e-9  # type: ignore[operator]


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("seed", SEEDS)
def test_solvers_and_bounds_against_brute_force(seed: int, size: Any, start: Any) -> None:
    made = drawn(seed, size, start)
    best, _ = brute_force(made)
    for solver, bound in KINDS:
        found = solve(made, solver, bound, starts=3, random_partitions=10, seed=seed)  # type: ignore[arg-type]
        _check(made, found)
        assert found.objective <= best + 1e-9
        if found.bound is not None:
            assert found.bound >= best - 1e-6
        if solver == "milp" or bound == "exact":
            assert found.objective == pytest.approx(best, abs=1e-7)
            assert found.bound == pytest.approx(best, abs=1e-6)
            assert found.status.startswith("optimal, proved; ")


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("seed", SEEDS)
def test_the_integer_program_closes_what_the_relaxation_leaves(
    seed: int, start: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounding, "ROUNDS", 1)
    made = drawn(seed, "params", start)
    best, _ = brute_force(made)
    space = CutSpace(made)
    relaxation = bounding.relax(space, space.random(1, np.random.default_rng(seed))[0])
    solution = milp.solve(space, relaxation.candidates, 0.0)
    assert made.violations(space.cuts(solution.rows)) == 0
    assert space.medoids(solution.rows[None])[0][0] == pytest.approx(best, abs=1e-7)
    assert solution.bound == pytest.approx(best, abs=1e-6)
    found = solve(made, "kernighan_lin", starts=1, random_partitions=1, seed=seed)
    assert found.objective == pytest.approx(best, abs=1e-7)
    assert found.bound == pytest.approx(best, abs=1e-6)


def test_the_dynamic_program_alone_is_nearly_always_optimal() -> None:
    hits = [
        solve(made, "dp", "none", starts=5, random_partitions=1).objective > brute_force(made)[0] - 1e-9
        for made in (drawn(seed, size, start) for seed, size, start in product(range(100, 110), SIZES, STARTS))
    ]
    assert sum(hits) >= 0.98 * len(hits)


def test_without_noise_all_networks_are_cut_alike() -> None:
    """Three copies of a network: J = 2 N K exactly when all are cut at the same places."""
    one = problem((8,), 3)
    made = PartitionProblem(("a", "b", "c"), np.tile(one.similarity, (3, 3)), one.sizes * 3, 3, 0.2)
    for solver in ("dp", "milp"):
        found = solve(made, solver, starts=2)  # type: ignore[arg-type]
        assert found.objective == pytest.approx(18)
        assert found.gap_closed == 100
        assert len(set(found.cuts)) == 1


@pytest.mark.parametrize("seed", range(4))
def test_an_exchange_of_nodes_is_legal_and_never_lowers_the_objective(seed: int) -> None:
    made = drawn(seed, "params", "input")
    space = CutSpace(made)
    rows = space.random(20, np.random.default_rng(seed))
    _, anchors = space.medoids(rows)
    for m, k, step in product(range(len(made.names)), range(1, made.num_blocks), (1, -1)):
        moved = kernighan_lin._exchange(space, rows, anchors, m, k, step)
        for before, after, chosen in zip(rows, moved, anchors, strict=True):
            assert made.violations(space.cuts(after)) == 0
            gain = made.objective(space.cuts(after), chosen) - made.objective(space.cuts(before), chosen)
            assert gain > 1e-12 or (before == after).all()
        rows = moved


def test_recentring_and_exchanging_beat_random_cuts_with_medoids() -> None:
    made = problem((9, 12, 4, 30), 4, epsilon=0.5)
    space, seed = CutSpace(made), 3
    before = space.medoids(space.random(10, np.random.default_rng(seed)))[0].max()
    after = space.medoids(kernighan_lin.solve(space, 10, np.random.default_rng(seed))[None])[0][0]
    assert after >= before


def test_same_seed_same_partition() -> None:
    made = problem((9, 12, 4, 30), 4)
    for solver in ("dp", "kernighan_lin", "milp"):
        first, second = (solve(made, solver, starts=3, seed=5) for _ in range(2))  # type: ignore[arg-type]
        assert first == second
    assert solve(made, "kernighan_lin", seed=5).random != solve(made, "kernighan_lin", seed=6).random


def test_a_gap_stops_the_integer_program_early_and_is_told() -> None:
    made = problem((12, 14, 13, 11), 4, epsilon=0.5)
    exact, early = solve(made, "milp"), solve(made, "milp", gap=0.2)
    assert early.bound is not None
    assert early.bound >= exact.objective - 1e-6
    assert early.gap is not None
    assert early.gap <= 0.2 + 1e-6
    assert early.objective <= exact.objective + 1e-9
    assert solve(made, "kernighan_lin", "exact", starts=1, gap=0.2).gap <= 0.2 + 1e-6  # type: ignore[operator]


def test_the_share_of_the_gap_is_between_random_and_bound() -> None:
    found = Partition(cuts=(), anchors=(), objective=19.0, random=10.0, bound=20.0, violations=0, status="")
    assert found.gap_closed == pytest.approx(90)
    assert found.gap == pytest.approx(1 / 19)
    assert replace(found, bound=10.0, objective=10.0).gap_closed == 100
    assert replace(found, bound=19 * (1 + 0.9e-7)).gap_closed == 100  # within the solver's tolerance
    assert replace(found, bound=19 * (1 + 1.1e-7)).gap_closed < 100  # type: ignore[operator]


def test_a_single_network_is_its_own_anchor() -> None:
    found = solve(problem((7,), 3))
    assert found.objective == pytest.approx(6)
    assert found.gap_closed == 100


def test_json_names_everything() -> None:
    made = problem((4, 5), 2, epsilon=0.5, sizes=((5, 1, 1, 5), (2, 2, 2, 2, 2)), size="params")
    found = solve(made)
    told = found.to_dict(made, [f"{m}.{i}" for m, length in enumerate(made.lengths) for i in range(length)])
    assert told["models"]["m1"]["limit"] == 7  # floor(1.5 * ceil(10 / 2))
    assert {"objective", "bound", "gap", "gap_closed", "random", "violations"} == set(found.figures()) <= set(told)
    for m, name in enumerate(made.names):
        blocks = told["models"][name]["blocks"]
        assert [node for block in blocks for node in block["nodes"]] == [f"{m}.{i}" for i in range(made.lengths[m])]
        assert sum(block["size"] for block in blocks) == sum(made.sizes[m])
        for block in blocks:
            assert (block["similarity_to_anchor"] == 2) == (told["anchors"][block["set"]] == name)
    total = sum(block["similarity_to_anchor"] for model in told["models"].values() for block in model["blocks"])
    assert total == pytest.approx(found.objective)
