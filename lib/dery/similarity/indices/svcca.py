"""SVCCA (Raghu et al. 2017)."""

from collections.abc import Iterator, Sequence
from functools import partial

from ....params.similarity import Similarity
from .. import covariance, subspaces
from ..layers import Network, Pair, Tile

TITLE = "SVCCA"
READS: tuple[str, ...] = ("variance",)


def tiles(networks: Sequence[Network], pairs: Sequence[Pair], memory: int, params: Similarity) -> Iterator[Tile]:
    """Mean canonical correlation, ||U_X' U_Y||_* / min(r_X, r_Y), of the fewest leading principal components that hold
    `variance` of each layer's variance.
    """
    bases = partial(subspaces.bases, variance=params.variance, index="svcca")
    return covariance.products(networks, pairs, bases, subspaces.nuclear, memory)
