"""Stitches: the layer between two blocks, fitted in closed form."""

import torch
from torch import nn
from torch.nn import functional as F

from lib.layout import Layout
from lib.ridge import NormalEquations


class Stitch(nn.Module):
    """Maps one layout to another: pooling to a smaller grid, a 1x1 convolution, interpolation to a larger one.

    Prefix tokens of the target are a linear map of the pooled source. Pooling and bilinear interpolation commute with
    the 1x1 convolution, so it always works on the smaller grid.
    """

    def __init__(self, source: Layout, target: Layout):
        super().__init__()
        self.source, self.target = source, target
        self.channels = nn.Conv2d(source.channels, target.channels, 1)
        self.prefix = nn.Linear(source.channels, target.prefix * target.channels) if target.prefix else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """A batch in the source's layout -> the same batch in the target's."""
        y = _enlarge(self.channels(_shrink(self.source.to_map(x), self.target)), self.target)
        if self.prefix is None:
            return self.target.from_map(y)
        prefix = self.prefix(self.source.pool(x)).unflatten(1, (self.target.prefix, self.target.channels))
        return self.target.from_map(y, prefix)


class StitchEquations:
    """The least-squares problem of one stitch: source activations against the target's own, batch by batch."""

    def __init__(self, source: Layout, target: Layout):
        self.source, self.target = source, target
        self._map = NormalEquations(source.channels, target.channels)
        self._prefix = NormalEquations(source.channels, target.prefix * target.channels) if target.prefix else None

    def add(self, x: torch.Tensor, y: torch.Tensor) -> None:
        """A batch as it leaves the source and as it enters the target, for the same images."""
        self._map.add(rows(resized(self.source.to_map(x), self.target)), rows(self.target.to_map(y)))
        if self._prefix is not None:
            self._prefix.add(self.source.pool(x), y[:, : self.target.prefix].flatten(1))

    def r2(self, ridge: float) -> float:
        """R^2 of the map over all positions and channels."""
        return self._map.solve(ridge).r2

    @torch.no_grad()
    def solve(self, ridge: float, match_variance: bool) -> Stitch:
        """The fitted stitch. Differs from the paper: fitted instead of random."""
        stitch = Stitch(self.source, self.target)
        fit = self._map.solve(ridge, match_variance)
        stitch.channels.weight.copy_(fit.weight.T[:, :, None, None])
        assert stitch.channels.bias is not None
        stitch.channels.bias.copy_(fit.bias)
        if stitch.prefix is not None and self._prefix is not None:
            fit = self._prefix.solve(ridge, match_variance)
            stitch.prefix.weight.copy_(fit.weight.T)
            stitch.prefix.bias.copy_(fit.bias)
        return stitch


def resized(x: torch.Tensor, target: Layout) -> torch.Tensor:
    """A map [b, c, h, w] on the target's grid: pooled where that is smaller, interpolated where it is larger."""
    return _enlarge(_shrink(x, target), target)


def rows(x: torch.Tensor) -> torch.Tensor:
    """[b, c, h, w] -> [b h w, c]"""
    return x.permute(0, 2, 3, 1).flatten(0, 2)


def _shrink(x: torch.Tensor, target: Layout) -> torch.Tensor:
    size = (min(x.shape[2], target.height), min(x.shape[3], target.width))
    return x if x.shape[2:] == size else F.adaptive_avg_pool2d(x, size)


def _enlarge(x: torch.Tensor, target: Layout) -> torch.Tensor:
    size = (target.height, target.width)
    return x if x.shape[2:] == size else F.interpolate(x, size, mode="bilinear", align_corners=False)
