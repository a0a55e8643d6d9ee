"""SNIP (Lee et al. 2019; as a predictor Abdelfattah et al. 2021), in the code of DeRy: how much the loss hangs on
single parameters.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
from torch import nn

from ..train_mode import gradients, mean_in_train_mode

if TYPE_CHECKING:
    from ..built import Built

BETTER = "high"


def predict(made: "Built") -> float | None:
    """SNIP of the finished network on the probe images with their labels."""
    return snip(made.network, made.measures.probes.images(made.recipe.input))


def snip(network: nn.Module, batches: Iterable[tuple[torch.Tensor, torch.Tensor]]) -> float | None:
    """Mean over `batches` of images and labels of sum |theta dL/dtheta| over all parameters, L the mean cross entropy,
    in train mode (see `mean_in_train_mode`).

    Differs from Lee et al. and Abdelfattah et al., as DeRy's code does: they look at weights of convolutions and linear
    layers alone.
    """
    return mean_in_train_mode(network, batches, _of_batch)


def _of_batch(network: nn.Module, x: torch.Tensor, y: torch.Tensor) -> float:
    found = gradients(network, x, y, list(network.parameters()))
    return sum(float((w * g).abs().sum()) for w, g in found)
