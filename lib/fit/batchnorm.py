"""Recalibration of BatchNorm statistics without labels."""

from collections.abc import Iterable

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


def has_batchnorm(module: nn.Module) -> bool:
    """Whether any layer of `module` keeps batch statistics."""
    return any(isinstance(layer, _BatchNorm) and layer.running_mean is not None for layer in module.modules())


@torch.no_grad()
def batchnorm(module: nn.Module, batches: Iterable[torch.Tensor]) -> None:
    """Replaces, in place, the running statistics of every BatchNorm of `module` by their mean over one pass of
    `batches`; everything but BatchNorm stays in eval mode. Without BatchNorm nothing is run.
    """
    layers = [m for m in module.modules() if isinstance(m, _BatchNorm) and m.running_mean is not None]
    if not layers:
        return
    momenta = [layer.momentum for layer in layers]
    module.eval()
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # a cumulative mean over the batches
        layer.train()
    for x in batches:
        module(x)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
    module.eval()
