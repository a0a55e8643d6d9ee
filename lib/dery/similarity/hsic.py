"""HSIC of every pair of layers, of which CKA is made (Kornblith et al. 2019).

CKA(X, Y) = HSIC(K, M) / sqrt(HSIC(K, K) HSIC(M, M)). For linear kernels K = XX', <K, M>_F = ||X'Y||_F^2, so a pair of
networks is compared through kernel matrices or through products over images, whichever costs less.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch

from . import covariance, gram, kernels
from .layers import Network, Pair, Tile, centred, is_constant

ROUNDING = 1e-6  # of the biased product, below which the unbiased one is rounding errors


def biased(networks: Sequence[Network], pairs: Iterable[Pair], memory: int) -> Iterator[Tile]:
    """Biased HSIC of linear kernels, <HKH, M>_F / n^2 with H = I - 11'/n."""
    by_gram, by_covariance = _divide(networks, pairs)
    yield from covariance.products(networks, by_covariance, _centred, _biased, memory)
    yield from gram.products(networks, by_gram, kernels.linear(), memory)


def unbiased(networks: Sequence[Network], pairs: Iterable[Pair], memory: int) -> Iterator[Tile]:
    """Unbiased HSIC of linear kernels (Song et al. 2012), of 4 images at least."""
    by_gram, by_covariance = _divide(networks, pairs, widest=networks[0].images / 2)
    yield from covariance.products(networks, by_covariance, _centred, _debiased, memory)
    yield from gram.products(networks, by_gram, kernels.unbiased(networks[0].images), memory)


def prefers_gram(n: int, a: Sequence[int], b: Sequence[int]) -> bool:
    """Whether kernel matrices are the cheaper way for two networks with layers of widths d_i, given n images.

    In operations of the matrix product, the rest converted as measured on one core: making and reading a kernel's entry
    is worth 200, squaring an entry of X'Y 220. A network's kernel matrices serve all its pairs: an eighth of their
    products is counted here. The choice depends on the two networks alone, so that adding a third changes no bit.
    """
    layers, columns = len(a) + len(b), sum(a) + sum(b)
    by_gram = n * (n + min(n, gram.ROWS)) / 2 * (2 * len(a) * len(b) + 200 * layers + 2 * columns / 8)
    by_covariance = sum(a) * sum(b) * (2 * n + 220)
    return by_gram < by_covariance


@dataclass(frozen=True)
class _Centred:
    """Centred columns, each layer scaled to rows of mean square length 1."""

    columns: torch.Tensor
    widths: tuple[int, ...]

    @cached_property
    def squares(self) -> torch.Tensor:
        """Of the rows' lengths, float64 [layers, n]."""
        return torch.stack([part.square().sum(1) for part in self.columns.split(list(self.widths), 1)]).double()


def _centred(network: Network, layers: range) -> _Centred:
    """Constant layers become 0."""
    chosen = [network.layers[i] for i in layers]
    widths = tuple(layer.shape[1] for layer in chosen)
    y = centred(torch.cat(chosen, 1).to(network.device))
    own = [float(part.sum()) / len(y) for part in y.square().sum(0, dtype=torch.float64).split(list(widths))]
    scales = [
        0.0 if is_constant(layer) else network.spread(i, square) ** -0.5
        for i, layer, square in zip(layers, chosen, own, strict=True)
    ]
    return _Centred(y.mul_(torch.tensor(scales).repeat_interleave(torch.tensor(widths)).to(y.device)), widths)


def _biased(c: torch.Tensor, left: _Centred, right: _Centred) -> torch.Tensor:
    return covariance.sums(c.square_(), left, right) / len(left.columns) ** 2


def _debiased(c: torch.Tensor, left: _Centred, right: _Centred) -> torch.Tensor:
    """n (n-3) HSIC_1 = <K, M> - n/(n-2) q'p + (1'q)(1'p) / ((n-1)(n-2)), q and p the diagonals of centred K and M.

    The difference of large numbers: with more columns than images few digits would be left, hence `widest`.
    """
    n, q, p = len(left.columns), left.squares, right.squares
    biased = covariance.sums(c.square_(), left, right)
    products = biased - n / (n - 2) * q @ p.T + q.sum(1)[:, None] * p.sum(1) / ((n - 1) * (n - 2))
    return products.where(products.abs() > ROUNDING * biased, 0) / (n * (n - 3))


def _divide(
    networks: Sequence[Network], pairs: Iterable[Pair], widest: float = float("inf")
) -> tuple[list[Pair], list[Pair]]:
    """Pairs to be compared by kernel matrices and those by covariances; those have no layer wider than `widest`."""
    by_gram: list[Pair] = []
    by_covariance: list[Pair] = []
    for a, b in pairs:
        n, one, other = networks[a].images, networks[a].widths, networks[b].widths
        gains = prefers_gram(n, one, other) or max(*one, *other) > widest
        (by_gram if gains else by_covariance).append((a, b))
    return by_gram, by_covariance
