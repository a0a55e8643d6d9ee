"""BatchNorm statistics without labels: of one layer, from all that reaches it; of a whole module, in one pass."""

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


@torch.no_grad()
def recalibrate(layer: _BatchNorm, inputs: Iterable[torch.Tensor]) -> None:
    """Replaces, in place, the running statistics of `layer` by mean and variance of its `inputs` [n, C, ...] over all
    images and positions.
    """
    assert layer.running_mean is not None
    assert layer.running_var is not None
    count, total, squares = 0, torch.zeros(layer.num_features).double(), torch.zeros(layer.num_features).double()
    for x in inputs:
        values = x.movedim(1, -1).flatten(0, -2).double()
        count, total, squares = count + len(values), total + values.sum(0), squares + values.square().sum(0)
    mean = total / count
    layer.running_mean.copy_(mean)
    layer.running_var.copy_((squares / count - mean.square()).clamp_min(0))
