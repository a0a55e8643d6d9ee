"""Filter pruning by the rank of feature maps (HRank, Lin et al. 2020): a control."""

from collections.abc import Callable, Iterable
from math import isqrt

import torch
from torch import nn

from lib.channels.channels import Coupling, Layer
from lib.images.data import Batch


@torch.no_grad()
def importance(model: nn.Module, coupling: Coupling, batches: Iterable[Batch]) -> torch.Tensor:
    """Mean over images of the rank of a channel's feature map [h, w], float64 [channels]; for every class the same.

    A map is taken as it enters the layers that read it, and where several do (a residual stream) the mean of their
    ranks; of linear layers it is a number or, behind a flattened map, that map. The logits, which nobody reads, and
    what enters as a single channel have 0.

    Differs from the paper's code, which takes maps behind a layer's activation, in front of a pooling.
    """
    device = next(model.parameters()).device
    total, seen = torch.zeros(2, coupling.count, dtype=torch.float64)

    def observer(layer: Layer) -> Callable[[nn.Module, tuple[torch.Tensor, ...]], None]:
        channels = torch.tensor(layer.inputs)

        def observe(_: nn.Module, given: tuple[torch.Tensor, ...]) -> None:
            maps = given[0] if layer.kind == "conv" else _square(given[0], len(layer.inputs))
            ranks = torch.linalg.matrix_rank(maps).double().cpu()  # [b, channels]
            total.index_add_(0, channels, ranks.sum(0))
            seen.index_add_(0, channels, torch.full((len(channels),), float(len(ranks)), dtype=torch.float64))

        return observe

    readers = [layer for layer in coupling.layers if not set(layer.inputs) <= coupling.fixed]
    handles = [model.get_submodule(layer.name).register_forward_pre_hook(observer(layer)) for layer in readers]
    try:
        for x, _ in batches:
            model(x.to(device))
    finally:
        for handle in handles:
            handle.remove()
    return total / seen.clamp_min(1)


def _square(features: torch.Tensor, channels: int) -> torch.Tensor:
    """[b, channels positions] -> [b, channels, h, w], square where there are so many positions, else one row."""
    maps = features.flatten(1).unflatten(1, (channels, -1))
    side = isqrt(maps.shape[2])
    return maps.unflatten(2, (side, side) if side**2 == maps.shape[2] else (1, -1))
