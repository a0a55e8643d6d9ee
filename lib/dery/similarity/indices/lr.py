"""R^2 of linear regression (Kornblith et al. 2019, Table 1), made symmetric."""

from collections.abc import Iterator, Sequence
from functools import partial

from ....params.similarity import Similarity
from .. import covariance, subspaces
from ..layers import Network, Pair, Tile

TITLE = "Linear regression R²"
READS: tuple[str, ...] = ()


def tiles(networks: Sequence[Network], pairs: Sequence[Pair], memory: int, params: Similarity) -> Iterator[Tile]:
    """The mean of R^2(X from Y) and R^2(Y from X); R^2(Y from X) = ||U_X' Y||_F^2 / ||Y||_F^2.

    Differs from the paper's code: there it is one direction, of activations that are not centred; a partition needs a
    symmetric index.
    """
    bases = partial(subspaces.bases, variance=1.0, index="lr")
    return covariance.products(networks, pairs, bases, subspaces.regression, memory)
