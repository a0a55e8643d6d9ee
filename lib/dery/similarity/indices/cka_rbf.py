"""CKA of Gaussian kernels (Kornblith et al. 2019)."""

from collections.abc import Iterator, Sequence

from ....params.similarity import Similarity
from .. import gram, kernels
from ..layers import Network, Pair, Tile

TITLE = "RBF-CKA"
READS: tuple[str, ...] = ("bandwidth",)


def tiles(networks: Sequence[Network], pairs: Sequence[Pair], memory: int, params: Similarity) -> Iterator[Tile]:
    """Biased HSIC of Gaussian kernels; sigma = bandwidth times the median distance of two images."""
    return gram.products(networks, pairs, kernels.gaussian(networks[0].images, params.bandwidth), memory)
