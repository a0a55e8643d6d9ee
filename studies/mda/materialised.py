"""Contributions by their definition, as the authors' code has them: the peer of `lib.mda.contributions`."""

from collections.abc import Callable, Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import nn

from lib.channels.channels import Layer
from lib.images.data import Batch


@torch.no_grad()
def materialised(model: nn.Module, layers: Sequence[Layer], batches: Iterable[Batch]) -> dict[str, torch.Tensor]:
    """Contributions by their definition: all partial convolutions [B, O, I, H, W] of a layer at once."""
    sums: dict[str, torch.Tensor] = {}
    count = 0

    def observer(layer: Layer) -> Callable[[nn.Module, tuple[torch.Tensor, ...]], None]:
        def observe(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            x = inputs[0]
            if isinstance(module, nn.Conv2d):
                outputs, deep = module.weight.shape[:2]
                kernels = module.weight.transpose(0, 1).reshape(deep * outputs, 1, *module.kernel_size)
                parts = F.conv2d(x, kernels, None, module.stride, module.padding, module.dilation, deep)
                parts = parts.unflatten(1, (deep, outputs)).transpose(1, 2)  # [B, O, I, H, W]
            else:
                weight = module.get_parameter("weight")
                tokens = x.reshape(count, -1, x.shape[-1])
                parts = (tokens[:, None] * weight[:, None]).unflatten(3, (-1, layer.positions)).transpose(2, 3)
            found = parts.flatten(3).sum(3).relu().sum(0)
            sums[layer.name] = sums.get(layer.name, 0) + found.double()

        return observe

    handles = [model.get_submodule(layer.name).register_forward_pre_hook(observer(layer)) for layer in layers]
    for x, _ in batches:
        count = len(x)
        model(x)
    for handle in handles:
        handle.remove()
    return sums
