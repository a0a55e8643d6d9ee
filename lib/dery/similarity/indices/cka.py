"""Linear CKA, biased (Kornblith et al. 2019): the paper's index (DeRy, section 3.2)."""

from collections.abc import Iterator, Sequence

from ....params.similarity import Similarity
from .. import hsic
from ..layers import Network, Pair, Tile

TITLE = "Linear CKA"
READS: tuple[str, ...] = ()


def tiles(networks: Sequence[Network], pairs: Sequence[Pair], memory: int, params: Similarity) -> Iterator[Tile]:
    """Biased HSIC of linear kernels, <HKH, M>_F / n^2 with H = I - 11'/n."""
    return hsic.biased(networks, pairs, memory)
