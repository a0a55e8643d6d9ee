"""Predicted gains of the parts of a candidate: of each stitch by how well it fits, of each block by its similarity."""

from collections.abc import Sequence
from math import log
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float64

from ...base import artifacts
from ...params.assembly import Assembly
from ..forms import Nodes
from ..partition.sets import Partition
from ..paths.tables import Table
from .material import Bricks
from .stitching import Edge

SMALLEST = 1e-6  # R^2 or CKA whose logarithm is taken, at least


def scores(bricks: Bricks, params: Assembly, partition: Partition | None, similarity: Path) -> Table:
    """The objective: log R^2, log CKA or minus the replace-one KL of each stitch, and the weighted similarity of each
    block to the anchor of its set where `block_score` asks for it; only for that a `partition` is needed.

    Differs from the paper: its predictor, NASWOT, is a function of the whole network; ours adds up over stitches, which
    makes an exact search possible, and predicts better what untrained hybrids are worth.
    """
    names = [card.name for card in bricks.cards]
    if params.score == "cka":
        stitches = np.log(np.maximum(boundary_cka(similarity, names, bricks.cuts), SMALLEST))
    else:
        stitches = of_edges(bricks, params.score)
    blocks = np.zeros((bricks.sets, len(bricks.cards)))
    if params.block_score == "similarity_to_anchor":
        assert partition is not None
        for m, card in enumerate(bricks.cards):
            members = partition.members(card.name)
            blocks[:, m] = [params.block_weight * member.similarity_to_anchor for member in members]
    return Table(blocks, stitches)


def of_edges(bricks: Bricks, score: Literal["stitch_r2", "replace_one"]) -> Float64[np.ndarray, "J N N"]:
    """Gains of the fitted edges at equal depth, see `of_edge`; 0 for m = n: [K-1, N, N]."""
    names = [card.name for card in bricks.cards]
    found = np.zeros((bricks.sets - 1, len(names), len(names)))
    for k, m, n in np.ndindex(found.shape):
        if m != n:
            found[k, m, n] = of_edge(bricks.edges[k + 1, names[m], names[n], 0], score)
    return found


def of_edge(edge: Edge, score: Literal["stitch_r2", "replace_one"]) -> float:
    """log R^2, at least log 1e-6, or minus KL."""
    return -edge.kl if score == "replace_one" else log(max(edge.r2, SMALLEST))


def boundary_cka(similarity: Path, names: Sequence[str], cuts: Sequence[Sequence[int]]) -> Float64[np.ndarray, "J N N"]:
    """Similarity of what leaves each block to what enters the next block in every network: [K-1, N, N], 1 for m = n.

    similarity: the folder that the stage of that name leaves.
    """
    matrix = artifacts.read_tensors(similarity / "similarity.safetensors")["similarity"].double().numpy()
    labels = [row["model"] for row in artifacts.read_json(similarity / "nodes.json", Nodes)["nodes"]]
    found = np.ones((len(cuts[0]) - 2, len(names), len(names)))
    for k in range(len(found)):
        at = [labels.index(name) + own[k + 1] - 1 for name, own in zip(names, cuts, strict=True)]
        found[k] = matrix[np.ix_(at, at)]
        np.fill_diagonal(found[k], 1.0)
    return found
