"""Limits, similarity of blocks, what cannot be cut, and the space of legal cuts."""

from dataclasses import replace
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lib.base.errors import BrickyardError
from lib.dery.partition.bound import relax
from lib.dery.partition.cover import PartitionProblem, node_sizes
from lib.dery.partition.sets import Partition
from lib.dery.partition.space import CutSpace
from lib.params.partition import Partition as Params
from tests.dery.partition.partitions import brute_force, drawn, legal, problem


def test_the_size_limit_is_floor_of_1_plus_eps_times_ceil() -> None:
    made = problem((10, 11, 4), 4)
    assert [made.limit(m) for m in range(3)] == [3, 3, 1]  # floor(1.2 * 3), floor(1.2 * 3), floor(1.2 * 1)
    assert problem((10,), 4, epsilon=1 / 3).limit(0) == 4
    assert problem((25,), 5, epsilon=0.2).limit(0) == 6  # not 5, though 1.2 * 5 < 6 in binary
    assert problem((2,), 2, sizes=((700, 301),), size="params").limit(0) == 601  # floor(1.2 * ceil(1001 / 2))


def test_two_first_blocks_start_alike_by_their_common_image() -> None:
    made = problem((3, 3), 3)
    inner = made.similarity[0, 3] + made.similarity[1, 4]
    assert made.similarity_of((0, 0, 1), (1, 0, 1)) == pytest.approx(1 + made.similarity[0, 3])
    assert made.similarity_of((0, 1, 2), (1, 1, 2)) == pytest.approx(inner)
    assert made.similarity_of((0, 1, 2), (0, 1, 2)) == 2


def test_first_output_and_weights() -> None:
    made = problem((3, 3), 3, start="first_output", weights=(0.5, 2.0))
    expected = 0.5 * made.similarity[0, 3] + 2 * made.similarity[1, 3]
    assert made.similarity_of((0, 0, 2), (1, 0, 1)) == pytest.approx(expected)
    assert made.similarity_of((0, 0, 2), (0, 0, 2)) == 2.5


def test_violations_are_counted() -> None:
    made = problem((4, 4), 2, sizes=((9, 1, 1, 1), (1, 1, 1, 1)), size="params", epsilon=0.5)  # limits 9 and 3
    for cuts, count in [
        (((0, 1, 4), (0, 2, 4)), 0),
        (((0, 2, 4), (0, 2, 4)), 1),  # 10 > 9
        (((0, 2, 4), (0, 4, 4)), 3),  # and 4 > 3 beside an empty block
        (((0, 1, 4), (0, 2, 3)), 1),  # a node left out
        (((0, 1, 4), (0, 4)), 2),  # one block only, and too large
    ]:
        assert made.violations(cuts) == count


def test_too_few_nodes_names_the_network() -> None:
    with pytest.raises(BrickyardError, match=r"partition\.num_blocks = 3: m1 has 2 nodes; use at most 2 or leave it"):
        problem((5, 2), 3).check()
    with pytest.raises(BrickyardError, match=r"m1 has 1 node; leave it out"):
        problem((5, 1), 3).check()


def test_a_node_beyond_the_limit_names_network_and_smallest_epsilon() -> None:
    sizes = ((1, 1, 1, 1, 1, 1), (1, 7, 1, 1))
    made = problem((6, 4), 3, sizes=sizes, size="macs")
    message = (
        r"partition\.epsilon = 0\.2: cut into 3 blocks, m1 has one of at least 7 macs, 4 are allowed; "
        r"use epsilon >= 0\.75$"
    )
    with pytest.raises(BrickyardError, match=message):
        made.check()
    problem((6, 4), 3, sizes=sizes, size="macs", epsilon=0.75).check()
    with pytest.raises(BrickyardError, match="epsilon"):
        problem((6, 4), 3, sizes=sizes, size="macs", epsilon=0.7499).check()


def test_fewer_blocks_are_offered_where_they_would_do() -> None:
    with pytest.raises(BrickyardError, match=r"m0 .* use epsilon >= 0\.5 or num_blocks = 2$"):
        problem((4,), 3, sizes=((3, 3, 3, 3),), size="params", epsilon=0.2).check()


@pytest.mark.parametrize("seed", range(30))
def test_check_refuses_exactly_what_has_no_legal_cuts(seed: int) -> None:
    generator = np.random.default_rng(seed)
    sizes = tuple(tuple(int(s) for s in generator.integers(0, 20, size=5)) for _ in range(2))
    blocks = int(generator.integers(2, 5))
    made = problem((5, 5), blocks, sizes=sizes, size="params", epsilon=float(generator.choice([0, 0.2, 0.6])))
    if all(legal(made, m) for m in range(2)):
        made.check()
        return
    with pytest.raises(BrickyardError) as caught:
        made.check()
    words = str(caught.value).split()
    epsilon = float(words[words.index(">=") + 1])
    enough = problem((5, 5), blocks, sizes=sizes, size="params", epsilon=epsilon)
    assert all(legal(enough, m) for m in range(2))
    less = problem((5, 5), blocks, sizes=sizes, size="params", epsilon=epsilon - 2e-4)
    assert not all(legal(less, m) for m in range(2))


@pytest.mark.parametrize("seed", range(20))
def test_what_nodes_have_in_common_counts_once_a_block(seed: int) -> None:
    """Weights of a network of five nodes, each used by some of them; another network shares nothing."""
    generator = np.random.default_rng(seed)
    weights, used = generator.integers(1, 20, 6), generator.random((5, 6)) < 0.4

    def size(i: int, j: int) -> int:
        return int(weights @ used[i:j].any(0))

    nodes = [
        {"model": "a", "node": str(j), "params": size(j, j + 1), "macs": 1}
        | {"since": {"params": [size(i, j + 1) for i in range(j + 1)], "macs": list(range(j + 1, 0, -1))}}
        for j in range(5)
    ]
    nodes += [{"model": "b", "node": str(j), "params": 3, "macs": 1} for j in range(6)]
    settings = {"start": "input", "weights": {"start": 1, "end": 1}, "solver": "dp", "starts": 1, "bound": "none"}
    settings |= {"num_blocks": 3, "epsilon": 0.4, "size": "params", "gap": 0, "random_partitions": 2}
    made = PartitionProblem.of(nodes, np.eye(11), Params.model_validate(settings))
    most = (1 + made.epsilon) * np.ceil(size(0, 5) / 3) + 1e-9
    whole = [(0, i, j, 5) for i, j in combinations(range(1, 5), 2)]
    expected = [cuts for cuts in whole if all(size(i, j) <= most for i, j in pairwise(cuts))]
    assert made.limit(0) == int(most)
    if not expected:
        with pytest.raises(BrickyardError, match="use epsilon >="):
            made.check()
        return
    made.check()
    space = CutSpace(made)
    found = {space.cuts(rows)[0] for rows in space.random(400, generator)}
    assert found == set(expected)
    assert all(made.violations((cuts, (0, 2, 4, 6))) == (cuts not in expected) for cuts in whole)


def test_a_similarity_of_other_nodes_is_refused() -> None:
    made = problem((3, 3), 2)
    with pytest.raises(BrickyardError, match=r"similarity: \[6, 6\] values for 5 nodes"):
        replace(made, sizes=((1, 1, 1), (1, 1))).check()
    made.similarity[0, 1] = np.nan
    with pytest.raises(BrickyardError, match="finite"):
        made.check()


def test_node_sizes_are_read_from_the_records() -> None:
    nodes: list[dict[str, Any]] = [
        {"model": "b", "node": "x", "params": 5, "macs": 50},
        {"model": "b", "node": "y", "params": 7, "macs": 70},
        {"model": "a", "node": "x", "params": 9, "macs": 90},
    ]
    assert node_sizes(nodes, "nodes") == {"b": (1, 1), "a": (1,)}
    assert node_sizes(nodes, "params") == {"b": (5, 7), "a": (9,)}
    assert node_sizes(nodes, "macs") == {"b": (50, 70), "a": (90,)}
    del nodes[1]["macs"]
    with pytest.raises(BrickyardError, match=r"partition\.size = macs: nodes\.json has no macs of node y of b; dvc "):
        node_sizes(nodes, "macs")


@pytest.mark.parametrize("size", ["nodes", "params"])
@pytest.mark.parametrize("seed", range(6))
def test_the_space_holds_every_legal_cut_and_no_other(seed: int, size: Any) -> None:
    made = drawn(seed, size, "input")
    space = CutSpace(made)
    random = space.random(400, np.random.default_rng(0))
    for m in range(len(made.names)):
        expected = legal(made, m)
        for k in range(made.num_blocks + 1):
            rows = space.spans[k][m]
            assert set(space.owner[k][rows]) == {m}
            assert space.position[k][rows].tolist() == sorted({cuts[k] for cuts in expected})
        for k in range(made.num_blocks):
            i, j = np.nonzero(space.legal[k][m])
            pairs = set(
                zip(
                    space.position[k][space.spans[k][m]][i].tolist(),
                    space.position[k + 1][space.spans[k + 1][m]][j].tolist(),
                    strict=True,
                )
            )
            assert pairs == {tuple(cuts[k : k + 2]) for cuts in expected}
        assert {space.cuts(rows)[m] for rows in random} == set(expected)


@pytest.mark.parametrize("start", ["input", "first_output"])
@pytest.mark.parametrize("seed", range(6))
def test_the_relaxation_bounds_and_keeps_an_optimal_partition(seed: int, start: Any) -> None:
    made = drawn(seed, "params", start)
    space = CutSpace(made)
    rows = space.random(1, np.random.default_rng(seed))[0]
    found = relax(space, rows)
    best, optimal = brute_force(made)
    known = made.objective(space.cuts(found.rows), space.medoids(found.rows[None])[1][0])
    assert known >= space.medoids(rows[None])[0][0] - 1e-9
    assert found.bound >= best - 1e-9
    kept = [
        {(int(space.owner[k][i]), int(space.position[k][i]), int(space.position[k + 1][j])) for i, j in own.T}
        for k, own in enumerate(found.candidates)
    ]
    for cuts in optimal:
        assert all(
            any((m, *span[k]) in kept[k] for m, span in enumerate(list(pairwise(own)) for own in cuts))
            for k in range(made.num_blocks)
        )


def test_the_stage_writes_what_its_params_ask_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from lib.base import artifacts
    from stages.partition import main

    made = problem((4, 5), 2)
    nodes = [
        {"model": name, "node": f"n{i}", "params": 10 * (i + 1), "macs": 100}
        for name, length in zip(made.names, made.lengths, strict=True)
        for i in range(length)
    ]
    text = (
        Path("params.yaml").read_text().replace("size: nodes", "size: params").replace("num_blocks: 3", "num_blocks: 2")
    )
    (tmp_path / "params.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    artifacts.write_tensors(
        tmp_path / "s" / "similarity.safetensors", {"similarity": torch.from_numpy(made.similarity)}
    )
    artifacts.write_json(tmp_path / "s" / "nodes.json", {"nodes": nodes})
    main(tmp_path / "s", tmp_path / "out.json", tmp_path / "metrics.json")
    out, metrics = artifacts.read_json(tmp_path / "out.json"), artifacts.read_metrics(tmp_path / "metrics.json")
    assert out["size"] == "params"
    assert out["limits"] == dict(zip(made.names, [60, 90], strict=True))  # floor(1.2 * 50), floor(1.2 * 75)
    assert Partition.read(tmp_path / "out.json").to_dict() == Partition.from_dict(out).to_dict()
    assert set(metrics) == {"objective", "bound", "gap", "gap_closed", "random", "violations"}
    assert metrics["violations"] == 0
    assert metrics["bound"] == pytest.approx(out["objective"])
