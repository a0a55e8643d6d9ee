"""Norm of the gradient (Abdelfattah et al. 2021), a predictor in the code of DeRy."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
from torch import nn

from ..train_mode import gradients, mean_in_train_mode

if TYPE_CHECKING:
    from ..built import Built

BETTER = "high"


def predict(made: "Built") -> float | None:
    """Norm of the gradient of the finished network on the probe images with their labels."""
    return grad_norm(made.network, made.measures.probes.images(made.recipe.input))


def grad_norm(network: nn.Module, batches: Iterable[tuple[torch.Tensor, torch.Tensor]]) -> float | None:
    """Mean over `batches` of images and labels of ||dL/dtheta||, theta all parameters together, L the mean cross
    entropy, in train mode (see `mean_in_train_mode`).

    Differs from Abdelfattah et al., as DeRy's code does: they add up norms, of the weights of convolutions and
    linear layers.
    """
    return mean_in_train_mode(network, batches, _of_batch)


def _of_batch(network: nn.Module, x: torch.Tensor, y: torch.Tensor) -> float:
    found = gradients(network, x, y, list(network.parameters()))
    return sum(float(g.square().sum()) for _, g in found) ** 0.5
