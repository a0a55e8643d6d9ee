"""Fisher (Theis et al. 2018, Turner et al. 2020; as a predictor Abdelfattah et al. 2021), in the code of DeRy: how much
the loss hangs on single channels.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ....fit.exact import exact
from ..train_mode import mean_in_train_mode

if TYPE_CHECKING:
    from ..built import Built

BETTER = "high"


def predict(made: "Built") -> float | None:
    """Fisher of the finished network on the probe images with their labels."""
    return fisher(made.network, made.measures.probes.images(made.recipe.input))


def fisher(network: nn.Module, batches: Iterable[tuple[torch.Tensor, torch.Tensor]]) -> float | None:
    """Mean over `batches` of images and labels of sum_c 1/2 mean_b (sum_p a dL/da)^2 over the channels c of what leaves
    every 2-D convolution and linear layer, a[b, c, p] with positions p, L the mean cross entropy, in train mode (see
    `mean_in_train_mode`). None without such layers.

    Differs from the paper's code: that takes the tokens of a linear layer for its channels, and adds up over channels.
    """
    return mean_in_train_mode(network, batches, _of_batch)


def _of_batch(network: nn.Module, x: torch.Tensor, y: torch.Tensor) -> float | None:
    """Behind every layer stands a zero: the loss's gradient by it is that by what leaves the layer."""
    kept: list[tuple[torch.Tensor, torch.Tensor, int]] = []

    def keep(layer: nn.Module, given: Any, out: torch.Tensor) -> torch.Tensor:
        zero = torch.zeros_like(out, requires_grad=True)
        kept.append((zero, out.detach().clone(), 1 if isinstance(layer, nn.Conv2d) else -1))
        return out + zero

    layers = [one for one in network.modules() if isinstance(one, nn.Conv2d | nn.Linear)]
    handles = [layer.register_forward_hook(keep) for layer in layers]
    try:
        loss = nn.functional.cross_entropy(network(x), y)
    finally:
        for handle in handles:
            handle.remove()
    found = torch.autograd.grad(loss, [zero for zero, _, _ in kept], allow_unused=True) if kept else ()
    shares = [
        _share(out * gradient, channels, len(x))
        for (_, out, channels), gradient in zip(kept, found, strict=True)
        if gradient is not None and len(out) % len(x) == 0
    ]
    return sum(shares) if shares else None


def _share(product: torch.Tensor, channels: int, images: int) -> float:
    """Of one layer; an image may take several rows, such as windows."""
    per_channel = exact(product).movedim(channels, -1).reshape(images, -1, product.shape[channels]).sum(1)
    return float(per_channel.square().mean(0).sum()) / 2
