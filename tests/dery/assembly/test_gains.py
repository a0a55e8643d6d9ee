"""Scores of stitches and blocks."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lib.base import artifacts
from lib.base.memo import Memo
from lib.dery.assembly import gains
from lib.dery.assembly.edges import fit
from lib.dery.assembly.fronts import Fronts
from lib.dery.assembly.material import Bricks
from lib.dery.partition.sets import Partition
from lib.params.assembly import Assembly
from tests.dery.partition.partitions import partitioned


def cut(bricks: Bricks, similarities: Mapping[str, Sequence[float]] | None = None) -> Partition:
    """As the bricks are."""
    return partitioned(dict(zip((card.name for card in bricks.cards), bricks.cuts, strict=True)), similarities)


def test_scores_are_those_of_the_edges(bricks: Bricks, params: Callable[..., Assembly]) -> None:
    """Of each: log R^2, which is no less than log 1e-6, or minus its KL; none between blocks of one network."""
    names = [card.name for card in bricks.cards]
    given = known(bricks)
    poor = replace(given.edges[1, "vit", "plain", 0], r2=-0.5)
    given = replace(given, edges={**given.edges, (1, "vit", "plain", 0): poor})
    r2, kl = (gains.scores(given, params(score=score), None, Path()).stitches for score in ("stitch_r2", "replace_one"))
    assert r2.shape == kl.shape == (2, 3, 3)
    for k, m, n in np.ndindex(r2.shape):
        if m == n:
            assert r2[k, m, n] == kl[k, m, n] == 0
        else:
            edge = given.edges[k + 1, names[m], names[n], 0]
            assert kl[k, m, n] == pytest.approx(-edge.kl, abs=1e-9)
            assert r2[k, m, n] == pytest.approx(np.log(max(edge.r2, 1e-6)))
    assert r2[0, 1, 2] == pytest.approx(np.log(1e-6))


def known(bricks: Bricks) -> Bricks:
    """With all edges."""
    edges = [edge for card in bricks.cards for edge in fit(bricks, card.name, Fronts(bricks, Memo()), Memo())]
    return replace(bricks, edges={edge.joint: edge for edge in edges})


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
    found = gains.scores(bricks, params(score="cka"), cut(bricks), folder)
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
    found = gains.scores(bricks, asked, cut(bricks, values), similarity[0])
    assert found.blocks[:, 1].tolist() == [0.375, 0.625, 0.875]
