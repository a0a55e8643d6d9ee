"""Column spaces of centred activations, which linear regression, CCA and SVCCA compare.

X = U S V' is the thin singular value decomposition of a centred layer, of rank r; all three are made of C = U_i' U_j,
whose singular values are the canonical correlations.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Float32, Float64

from ...base.errors import BrickyardError
from . import covariance
from .layers import Network, is_constant


@dataclass(frozen=True)
class Bases:
    """Orthonormal bases of some layers of one network.

    columns: U of each layer; shares: of the layer's variance that its columns hold, float32 [sum of ranks].
    """

    columns: Float32[torch.Tensor, "n r"]
    shares: Float32[torch.Tensor, " r"]
    widths: tuple[int, ...]


def bases(network: Network, layers: range, variance: float, index: str) -> Bases:
    """Bases that hold `variance` of each of some layers; index: for whom, in errors."""
    found = [_basis(network, i, variance, index) for i in layers]
    columns, shares = torch.cat([u for u, _ in found], 1), torch.cat([s for _, s in found])
    return Bases(columns, shares, tuple(len(s) for _, s in found))


def _basis(network: Network, i: int, variance: float, index: str) -> tuple[torch.Tensor, torch.Tensor]:
    """U [n, r] of a layer and the shares [r]; r leaves out singular values that are float32 rounding errors.

    Raises BrickyardError where the basis spans every centred vector, so that anything would be similar to it.
    """
    layer = network.layers[i]
    if is_constant(layer):
        return torch.zeros(len(layer), 0, device=network.device), torch.zeros(0, device=network.device)
    x = layer.to(network.device).double()
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


def regression(c: Float[torch.Tensor, "r s"], left: Bases, right: Bases) -> Float64[torch.Tensor, "l m"]:
    """Mean of both R^2 for each pair of layers, from C of all of them."""
    return covariance.sums(c.square_().mul_((left.shares[:, None] + right.shares) / 2), left, right)


def squared(c: Float[torch.Tensor, "r s"], left: Bases, right: Bases) -> Float64[torch.Tensor, "l m"]:
    """Mean squared canonical correlation, likewise."""
    return covariance.sums(c.square_(), left, right).cpu() / _smaller(left, right)


def nuclear(c: Float[torch.Tensor, "r s"], left: Bases, right: Bases) -> Float64[torch.Tensor, "l m"]:
    """Mean canonical correlation, likewise."""
    rows = [part.split(list(right.widths), 1) for part in c.double().split(list(left.widths))]
    norms = [[torch.linalg.svdvals(part).sum() for part in row] for row in rows]
    return torch.tensor(norms, dtype=torch.float64) / _smaller(left, right)


def _smaller(left: Bases, right: Bases) -> torch.Tensor:
    """The smaller rank of each pair, 1 at least."""
    ranks = torch.tensor(left.widths), torch.tensor(right.widths)
    return torch.minimum(ranks[0][:, None], ranks[1]).clamp_min(1).double()
