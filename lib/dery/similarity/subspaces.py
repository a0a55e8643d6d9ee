"""Indices that compare the column spaces of centred activations: linear regression, CCA, SVCCA.

X = U S V' is the thin singular value decomposition of a centred layer, of rank r; all three are made of C = U_i' U_j,
whose singular values are the canonical correlations.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from ...base.errors import BrickyardError
from . import covariance
from .layers import Network, Pair, Tile, is_constant


def lr(networks: Sequence[Network], pairs: Iterable[Pair], memory: int) -> Iterator[Tile]:
    """R^2 of linear regression, symmetric: the mean of R^2(X from Y) and R^2(Y from X).

    R^2(Y from X) = ||U_X' Y||_F^2 / ||Y||_F^2 (Kornblith et al. 2019, Table 1). Differs from the paper: there it is one
    direction; a partition needs a symmetric index.
    """
    return covariance.products(networks, pairs, partial(_bases, variance=1.0, index="lr"), _regression, memory)


def cca(networks: Sequence[Network], pairs: Iterable[Pair], memory: int) -> Iterator[Tile]:
    """Mean squared canonical correlation, ||U_X' U_Y||_F^2 / min(r_X, r_Y) (Kornblith et al. 2019, Table 1)."""
    return covariance.products(networks, pairs, partial(_bases, variance=1.0, index="cca"), _squared, memory)


def svcca(networks: Sequence[Network], pairs: Iterable[Pair], memory: int, variance: float) -> Iterator[Tile]:
    """Mean canonical correlation, ||U_X' U_Y||_* / min(r_X, r_Y), of the fewest leading principal components that hold
    `variance` of each layer's variance (Raghu et al. 2017).
    """
    return covariance.products(networks, pairs, partial(_bases, variance=variance, index="svcca"), _nuclear, memory)


@dataclass(frozen=True)
class _Bases:
    """columns: U of each layer; shares: of the layer's variance that its columns hold, float32 [sum of ranks]."""

    columns: torch.Tensor
    shares: torch.Tensor
    widths: tuple[int, ...]


def _bases(network: Network, layers: range, variance: float, index: str) -> _Bases:
    found = [_basis(network, i, variance, index) for i in layers]
    columns, shares = torch.cat([u for u, _ in found], 1), torch.cat([s for _, s in found])
    return _Bases(columns, shares, tuple(len(s) for _, s in found))


def _basis(network: Network, i: int, variance: float, index: str) -> tuple[torch.Tensor, torch.Tensor]:
    """U [n, r] of a layer and the shares [r]; r leaves out singular values that are float32 rounding errors.

    Raises BrickyardError where the basis spans every centred vector, so that anything would be similar to it.
    """
    layer = network.layers[i]
    if is_constant(layer):
        return torch.zeros(len(layer), 0), torch.zeros(0)
    x = layer.double()
    u, s, _ = torch.linalg.svd(x - x.mean(0), full_matrices=False)
    s = s[s > s[0] * max(x.shape) * torch.finfo(torch.float32).eps].square()
    s /= s.sum()
    kept = int((s.cumsum(0) < variance - 1e-12).sum()) + 1 if variance < 1 else len(s)
    if kept >= len(x) - 1:
        raise BrickyardError(
            f"similarity.index = {index}: {len(x)} images are too few for node {network.nodes[i]} of {network.name}, "
            f"whose {kept} directions explain anything; raise dataset.probe_images, or use cka or svcca"
        )
    return u[:, :kept].float(), s[:kept].float()


def _regression(c: torch.Tensor, left: _Bases, right: _Bases) -> torch.Tensor:
    return covariance.sums(c.square_().mul_((left.shares[:, None] + right.shares) / 2), left, right)


def _squared(c: torch.Tensor, left: _Bases, right: _Bases) -> torch.Tensor:
    return covariance.sums(c.square_(), left, right) / _smaller(left, right)


def _nuclear(c: torch.Tensor, left: _Bases, right: _Bases) -> torch.Tensor:
    rows = [part.split(list(right.widths), 1) for part in c.double().split(list(left.widths))]
    norms = [[torch.linalg.svdvals(part).sum() for part in row] for row in rows]
    return torch.tensor(norms, dtype=torch.float64) / _smaller(left, right)


def _smaller(left: _Bases, right: _Bases) -> torch.Tensor:
    """The smaller rank of each pair, 1 at least."""
    ranks = torch.tensor(left.widths), torch.tensor(right.widths)
    return torch.minimum(ranks[0][:, None], ranks[1]).clamp_min(1).double()
