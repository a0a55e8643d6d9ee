"""The similarity of all nodes of all networks: DeRy's s(X, X'), section 3.2."""

import json
from collections.abc import Sequence
from itertools import combinations_with_replacement
from pathlib import Path

import torch
from jaxtyping import Float64

from ...base import memo
from ...base.errors import BrickyardError
from ...base.progress import track
from ...params.similarity import Similarity
from .index import find
from .layers import Network, Pair

TILE = "tile"
NOTHING = 1e-12  # a layer's product with itself, mean over image pairs; below, it is rounding errors


def matrix(
    networks: Sequence[Network], params: Similarity, memory: int, kept: memo.Memo | None = None
) -> Float64[torch.Tensor, "L L"]:
    """Similarity of every pair of layers, networks in the order given: float64 [L, L], symmetric, diagonal 1.

    A tile is a pair of networks; its bits depend on the two networks' activations, the index and `params` alone, not
    on other networks, on memory (bytes that may be in use at a time) or on whether it was in the memo, where it is put
    as soon as it is done. Products are normalised by their own diagonal. A constant layer is similar to nothing, itself
    excepted. Raises BrickyardError when images are too few for the index, and naming the node whose activations are too
    large or too small.
    """
    if networks[0].images < 2:
        raise BrickyardError("similarity needs at least 2 images; raise dataset.probe_images")
    kept, index = kept or memo.Memo(), find(params.index)
    settings = json.dumps([params.index, *(getattr(params, name) for name in index.READS)])
    unique = sorted({network.checksum: network for network in networks}.values(), key=lambda network: network.checksum)
    keys = {
        (a, b): memo.key(Path(__file__), unique[a].checksum, unique[b].checksum, settings)
        for a, b in combinations_with_replacement(range(len(unique)), 2)
    }
    tiles = {pair: found[TILE] for pair, name in keys.items() if (found := kept.get(name)) is not None}
    missing = [pair for pair in keys if pair not in tiles]
    for pair, tile in track(index.tiles(unique, missing, memory, params), "similarity", len(missing)):
        tiles[pair] = tile.triu() + tile.triu(1).T if pair[0] == pair[1] else tile
        kept.put(keys[pair], {TILE: tiles[pair]})
    kept.prune()
    return _assembled(tiles, [[u.checksum for u in unique].index(network.checksum) for network in networks])


def _assembled(tiles: dict[Pair, torch.Tensor], order: list[int]) -> torch.Tensor:
    products = torch.cat([torch.cat([tiles[a, b] if a <= b else tiles[b, a].T for b in order], 1) for a in order])
    diagonal = torch.cat([tiles[a, a].diagonal() for a in order])
    diagonal = torch.where(diagonal > NOTHING, diagonal, torch.inf)
    return (products / (diagonal[:, None] * diagonal).sqrt()).clamp_(-1, 1).fill_diagonal_(1.0)
