"""Predicted gains of the parts of a candidate: of each stitch by how well it fits, of each block by its similarity."""

import tempfile
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float64

from ...base import artifacts
from ...base.progress import track
from ...chain.layout import Layout
from ...fit.ridge import NormalEquations
from ...params.assembly import Assembly
from ..forms import Nodes
from ..partition.sets import Partition
from ..paths.problem import Table
from .material import Bricks
from .stitching import resized, rows

SMALLEST = 1e-6  # R^2 or CKA whose logarithm is taken, at least


def scores(
    bricks: Bricks, params: Assembly, partition: Partition | None, similarity: Path, networks: Sequence[int]
) -> Table:
    """The objective: log R^2 or log CKA of each stitch, and the weighted similarity of each block to the anchor of its
    set where `block_score` asks for it; only for that a `partition` is needed. networks: those that may lend
    blocks; stitches of others keep the least score.

    Differs from the paper: its predictor, NASWOT, is a function of the whole network; ours adds up over stitches, which
    makes an exact search possible, and predicts better what untrained hybrids are worth.
    """
    if params.score == "cka":
        agreement = boundary_cka(similarity, [card.name for card in bricks.cards], bricks.cuts)
    else:
        agreement = stitch_r2(bricks, networks)
    blocks = np.zeros((bricks.sets, len(bricks.cards)))
    if params.block_score == "similarity_to_anchor":
        assert partition is not None
        for m, card in enumerate(bricks.cards):
            members = partition.members(card.name)
            blocks[:, m] = [params.block_weight * member.similarity_to_anchor for member in members]
    return Table(blocks, np.log(np.maximum(agreement, SMALLEST)))


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


@torch.no_grad()
def stitch_r2(bricks: Bricks, networks: Sequence[int]) -> Float64[np.ndarray, "J N N"]:
    """R^2 of the ridge map from each block's output to the next block's input in every other network: [K-1, N, N].

    Both sides are the networks' own activations on the images of `bricks.fit`, unpooled, X brought to Y's grid; R^2 = 1
    - sum RSS / sum TSS over channels; 1 on the diagonal, clipped below at 1e-6, as are networks not in `networks`.
    All targets of a source that have the same grid share X'X and its factorization; one source's equations are in
    memory at a time, and activations wait on disk: the zoo does not grow the memory.
    """
    count, sets = len(bricks.cards), bricks.sets - 1
    found = np.full((sets, count, count), SMALLEST)
    found[:, np.arange(count), np.arange(count)] = 1.0
    with tempfile.TemporaryDirectory() as folder:
        maps = {m: _crossing(bricks, m, Path(folder) / str(m)) for m in track(networks, "activations", len(networks))}
        pairs = [(k, m) for k in range(sets) for m in networks]
        for k, m in track(pairs, "stitch R²", len(pairs)):
            others = [n for n in networks if n != m]
            for grid in sorted({maps[n][k].shape[2:] for n in others}):
                targets = [n for n in others if maps[n][k].shape[2:] == grid]
                r2 = _r2(maps[m][k], [maps[n][k] for n in targets], bricks.ridge, bricks.fit[m].batch_size)
                found[k, m, targets] = np.maximum(r2, SMALLEST)
    return found


def _crossing(bricks: Bricks, m: int, folder: Path) -> list[np.memmap]:
    """What crosses the inner cuts of network m: maps [n, c, h, w] in files."""
    chain, cuts, loader = bricks.chains[m], bricks.cuts[m], bricks.fit[m]
    folder.mkdir()
    layouts = [chain.layout(cut) for cut in cuts[1:-1]]
    maps = [
        np.memmap(folder / str(k), np.float32, "w+", shape=(len(loader.index), at.channels, at.height, at.width))
        for k, at in enumerate(layouts)
    ]
    parts = [chain[start:stop] for start, stop in pairwise(cuts[:-1])]
    done = 0
    for x, _ in loader:
        for part, at, kept in zip(parts, layouts, maps, strict=True):
            x = part(x)
            kept[done : done + len(x)] = at.to_map(x).numpy()
        done += len(x)
    return maps


def _r2(source: np.ndarray, targets: Sequence[np.ndarray], ridge: float, batch: int) -> list[float]:
    """R^2 of the maps from `source` to each of `targets`, which have one grid."""
    sizes = [target.shape[1] for target in targets]
    grid = Layout("nchw", sizes[0], *targets[0].shape[2:])
    equations = NormalEquations(source.shape[1], sum(sizes))
    for start in range(0, len(source), batch):
        x, *ys = (torch.from_numpy(np.array(maps[start : start + batch])).double() for maps in (source, *targets))
        equations.add(rows(resized(x, grid)), torch.cat([rows(y) for y in ys], 1))
    return equations.r2(ridge, sizes)
