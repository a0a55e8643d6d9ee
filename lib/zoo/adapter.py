"""Networks that expect other images than those they are given."""

import torch
from torch import nn
from torch.nn import functional as F

from ..trace.duplicate import duplicate
from .card import Input


class Adapter(nn.Module):
    """Makes images that were prepared as `given` says such as `own` says: normalises, and resizes, them anew.

    Exact where size, crop and interpolation agree; else what comes out is the other's crop, resized bilinearly.
    """

    def __init__(self, own: Input, given: Input):
        super().__init__()
        self.size = own.size
        scale = [g / o for g, o in zip(given.std, own.std, strict=True)]
        shift = [(g - o) / s for g, o, s in zip(given.mean, own.mean, own.std, strict=True)]
        self.register_buffer("scale", torch.tensor(scale)[:, None, None], persistent=False)
        self.register_buffer("shift", torch.tensor(shift)[:, None, None], persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images [b, 3, h, w] under the one transform -> images [b, 3, size, size] nearly under the other."""
        x = x * self.get_buffer("scale") + self.get_buffer("shift")
        if x.shape[-1] != self.size:
            x = F.interpolate(x, (self.size, self.size), mode="bilinear", antialias=True)
        return x


class Prepared(nn.Module):
    """A copy of a network, in eval mode, that answers images prepared for another one, see `Adapter`."""

    def __init__(self, network: nn.Module, own: Input, given: Input):
        super().__init__()
        self.network, self.images = duplicate(network).eval(), Adapter(own, given)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images [b, 3, h, w] under the other network's transform -> logits [b, classes]."""
        return self.network(self.images(x))
