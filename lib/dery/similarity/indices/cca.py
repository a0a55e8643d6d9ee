"""CCA (Kornblith et al. 2019, Table 1)."""

from collections.abc import Iterator, Sequence
from functools import partial

from ....params.similarity import Similarity
from .. import covariance, subspaces
from ..layers import Network, Pair, Tile

TITLE = "CCA R²"
READS: tuple[str, ...] = ()


def tiles(networks: Sequence[Network], pairs: Sequence[Pair], memory: int, params: Similarity) -> Iterator[Tile]:
    """Mean squared canonical correlation, ||U_X' U_Y||_F^2 / min(r_X, r_Y)."""
    bases = partial(subspaces.bases, variance=1.0, index="cca")
    return covariance.products(networks, pairs, bases, subspaces.squared, memory)
