"""The cover-set partition against brute force over all legal cuts and anchors."""

from itertools import combinations, product
from typing import Any

import numpy as np
import pytest

from lib.dery.partition import PartitionProblem, block_similarity, solve
from lib.errors import BrickyardError


def _problem(seed: int, lengths: tuple[int, ...], num_blocks: int, start: Any = "input", epsilon: float = 0.2):
    total = sum(lengths)
    factors = np.random.default_rng(seed).random((total, 4))
    unit = factors / np.linalg.norm(factors, axis=1, keepdims=True)
    names = tuple(f"m{i}" for i in range(len(lengths)))
    return PartitionProblem(names, unit @ unit.T, lengths, num_blocks, epsilon, start)


def _legal(problem: PartitionProblem, m: int) -> list[tuple[int, ...]]:
    length = problem.lengths[m]
    cuts = [(0, *inner, length) for inner in combinations(range(1, length), problem.num_blocks - 1)]
    return [c for c in cuts if max(b - a for a, b in zip(c, c[1:], strict=False)) <= problem.limit(m)]


def _objective(problem: PartitionProblem, cuts: tuple[tuple[int, ...], ...], anchors: tuple[int, ...]) -> float:
    """J by its definition, block by block."""
    total = 0.0
    for k, anchor in enumerate(anchors):
        blocks = [(m, c[k], c[k + 1]) for m, c in enumerate(cuts)]
        total += sum(block_similarity(problem, block, blocks[anchor]) for block in blocks)
    return total


def _brute_force(problem: PartitionProblem) -> float:
    networks = range(len(problem.lengths))
    return max(
        sum(
            max(
                sum(
                    block_similarity(problem, (m, c[k], c[k + 1]), (a, cuts[a][k], cuts[a][k + 1]))
                    for m, c in enumerate(cuts)
                )
                for a in networks
            )
            for k in range(problem.num_blocks)
        )
        for cuts in product(*(_legal(problem, m) for m in networks))
    )


@pytest.mark.parametrize("start", ["input", "first_output"])
@pytest.mark.parametrize("seed", range(4))
def test_reaches_the_brute_force_optimum(seed: int, start: str) -> None:
    problem = _problem(seed, (5, 7, 4), 3, start)
    result = solve(problem, starts=20, random_partitions=10, seed=0)
    assert result.objective == pytest.approx(_brute_force(problem), abs=1e-9)
    assert result.objective == pytest.approx(_objective(problem, result.cuts, result.anchors), abs=1e-9)
    assert result.random <= result.objective


def test_every_cut_is_legal() -> None:
    problem = _problem(0, (9, 12, 4, 30), 4)
    result = solve(problem, starts=3, random_partitions=3, seed=1)
    for m, cuts in enumerate(result.cuts):
        sizes = np.diff(cuts)
        assert cuts[0] == 0
        assert cuts[-1] == problem.lengths[m]
        assert sizes.min() >= 1
        assert sizes.max() <= problem.limit(m)


def test_the_size_limit_is_floor_of_1_plus_eps_times_ceil() -> None:
    problem = _problem(0, (10, 11, 4), 4)
    assert [problem.limit(m) for m in range(3)] == [3, 3, 1]  # floor(1.2 * 3), floor(1.2 * 3), floor(1.2 * 1)
    assert _problem(0, (10,), 4, epsilon=1 / 3).limit(0) == 4


def test_two_first_blocks_start_alike_by_their_common_image() -> None:
    problem = _problem(0, (3, 3), 3)
    inner = problem.similarity[0 + 1 - 1, 3 + 1 - 1] + problem.similarity[1, 4]
    assert block_similarity(problem, (0, 0, 1), (1, 0, 1)) == pytest.approx(1 + problem.similarity[0, 3])
    assert block_similarity(problem, (0, 1, 2), (1, 1, 2)) == pytest.approx(inner)
    assert block_similarity(problem, (0, 1, 2), (0, 1, 2)) == 2


def test_too_few_nodes_names_the_network() -> None:
    with pytest.raises(BrickyardError, match="m1 has 2 nodes; use at most 2"):
        solve(_problem(0, (5, 2), 3), 1, 1, 0)
