"""Covariance of Jacobians (Mellor et al. 2020, in the first version of their paper), a predictor in the code of DeRy:
how differently a network's answer depends on different images.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
from torch import nn

from ....fit.exact import exact
from ..train_mode import mean_in_train_mode

if TYPE_CHECKING:
    from ..built import Built

BETTER = "high"
SMALLEST = 1e-5  # k, which the authors add to every eigenvalue


def predict(made: "Built") -> float | None:
    """Covariance of the Jacobians of the finished network on the probe images, without labels."""
    return jacov(made.network, made.measures.probes.images(made.recipe.input))


def jacov(network: nn.Module, batches: Iterable[tuple[torch.Tensor, torch.Tensor]]) -> float | None:
    """Mean over `batches` of images of -sum_i (log(v_i + k) + 1 / (v_i + k)), k = 1e-5, v the eigenvalues of the [b, b]
    correlations between the images' gradients of the sum of all logits, in train mode (see `mean_in_train_mode`).

    None where an image has no gradient. Differs from the paper's code: an eigenvalue that rounding has made negative
    counts as 0.
    """
    return mean_in_train_mode(network, batches, _of_batch)


def _of_batch(network: nn.Module, x: torch.Tensor, y: torch.Tensor) -> float | None:
    x = x.detach().clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(network(x).sum(), x)
    correlations = torch.corrcoef(exact(gradient.flatten(1)))
    if not correlations.isfinite().all():
        return None
    values = torch.linalg.eigvalsh(correlations).clamp(min=0) + SMALLEST
    return -float((values.log() + 1 / values).sum())
