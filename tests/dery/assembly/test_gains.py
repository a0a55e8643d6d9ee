"""Scores of stitches and blocks: shared factorizations against one stitch at a time."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from lib.base import artifacts
from lib.dery.assembly import gains
from lib.dery.assembly.material import Bricks
from lib.dery.assembly.stitching import StitchEquations
from lib.dery.partition.sets import Partition
from lib.params.assembly import Assembly
from tests.dery.partition.partitions import partitioned


def cut(bricks: Bricks, similarities: Mapping[str, Sequence[float]] | None = None) -> Partition:
    """As the bricks are."""
    return partitioned(dict(zip((card.name for card in bricks.cards), bricks.cuts, strict=True)), similarities)


@torch.no_grad()
def _one_at_a_time(bricks: Bricks, k: int, m: int, n: int) -> float:
    at = [bricks.cuts[i][k + 1] for i in (m, n)]
    source, target = bricks.chains[m], bricks.chains[n]
    equations = StitchEquations(source.layout(at[0]), target.layout(at[1]))
    for (x, _), (y, _) in zip(bricks.fit[m], bricks.fit[n], strict=True):
        equations.add(source[0 : at[0]](x).double(), target[0 : at[1]](y).double())
    return equations.r2(bricks.ridge)


def test_all_edges_at_once_are_each_edge_by_itself(bricks: Bricks) -> None:
    """Different grids, layouts and a prefix token are among them."""
    found = gains.stitch_r2(bricks, range(3))
    assert found.shape == (2, 3, 3)
    for k, m, n in np.ndindex(found.shape):
        expected = 1.0 if m == n else max(_one_at_a_time(bricks, k, m, n), gains.SMALLEST)
        assert found[k, m, n] == pytest.approx(expected, abs=1e-9)
    assert 0.01 < found[~np.broadcast_to(np.eye(3, dtype=bool), found.shape)].max() < 1


def test_networks_that_lend_nothing_are_not_measured(bricks: Bricks) -> None:
    every, two = gains.stitch_r2(bricks, range(3)), gains.stitch_r2(bricks, [0, 2])
    assert (two[:, [0, 2], [2, 0]] == every[:, [0, 2], [2, 0]]).all()
    assert (two[:, 1, [0, 2]] == gains.SMALLEST).all()


@pytest.fixture
def similarity(tmp_path: Path) -> tuple[Path, np.ndarray]:
    """What the similarity stage leaves, in another order of networks than the bricks': plain, resnet, vit."""
    matrix = np.random.default_rng(0).random((10, 10))
    matrix = (matrix + matrix.T) / 2
    artifacts.write_tensors(tmp_path / "similarity.safetensors", {"similarity": torch.from_numpy(matrix)})
    labels = ["plain"] * 3 + ["resnet"] * 4 + ["vit"] * 3
    rows = [{"model": name, "node": str(i)} for i, name in enumerate(labels)]
    artifacts.write_json(tmp_path / "nodes.json", {"nodes": rows})
    return tmp_path, matrix


def test_cka_is_that_of_the_two_ends_of_a_stitch(
    bricks: Bricks, params: Callable[..., Assembly], similarity: tuple[Path, np.ndarray]
) -> None:
    folder, matrix = similarity
    found = gains.scores(bricks, params(score="cka"), cut(bricks), folder, range(3))
    last = {"resnet": (3 + 0, 3 + 2), "vit": (7 + 0, 7 + 1), "plain": (0, 1)}  # rows of the nodes before the two cuts
    names = [card.name for card in bricks.cards]
    for k, m, n in np.ndindex(found.stitches.shape):
        expected = 0.0 if m == n else np.log(matrix[last[names[m]][k], last[names[n]][k]])
        assert found.stitches[k, m, n] == pytest.approx(expected, abs=1e-9)
    assert (found.blocks == 0).all()


def test_blocks_may_be_scored_by_their_similarity_to_the_anchor(
    bricks: Bricks, params: Callable[..., Assembly], similarity: tuple[Path, np.ndarray]
) -> None:
    values = {card.name: [0.5 + m / 4 + k / 2 for k in range(3)] for m, card in enumerate(bricks.cards)}
    asked = params(score="cka", block_score="similarity_to_anchor", block_weight=0.5)
    found = gains.scores(bricks, asked, cut(bricks, values), similarity[0], range(3))
    assert found.blocks[:, 1].tolist() == [0.375, 0.625, 0.875]
