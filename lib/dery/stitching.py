"""Stitches: the layer between two blocks, and heads on top of a block, both fitted in closed form."""

from collections.abc import Iterable

import torch
from torch import nn
from torch.nn import functional as F

from lib.data import Batch
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


class LinearHead(nn.Module):
    """Global average pooling and one linear layer."""

    def __init__(self, source: Layout, num_classes: int):
        super().__init__()
        self.source = source
        self.classifier = nn.Linear(source.channels, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """A batch in the source's layout -> logits [b, classes]."""
        return self.classifier(self.source.pool(x))


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


@torch.no_grad()
def fit_head(layout: Layout, batches: Iterable[Batch], num_classes: int, ridge: float) -> LinearHead:
    """A linear head by ridge regression of one-hot labels on pooled features; batches of (activation, label).

    The logits are scaled so that their cross-entropy on the same images is least; that moves no argmax.
    """
    equations = NormalEquations(layout.channels, num_classes)
    kept: list[Batch] = []
    for x, y in batches:
        pooled = layout.pool(x)
        equations.add(pooled, F.one_hot(y, num_classes).float())
        kept.append((pooled, y))
    fit = equations.solve(ridge)
    features, labels = (torch.cat(parts) for parts in zip(*kept, strict=True))
    scale = _temperature(features @ fit.weight + fit.bias, labels)
    head = LinearHead(layout, num_classes)
    head.classifier.weight.copy_(scale * fit.weight.T)
    head.classifier.bias.copy_(scale * fit.bias)
    return head


def _temperature(logits: torch.Tensor, labels: torch.Tensor) -> float:
    """The factor on `logits` [n, classes] with the least cross-entropy (convex in it), by bisection on its slope."""
    low, high = 0.0, 100.0
    for _ in range(40):
        middle = (low + high) / 2
        expected = (torch.softmax(middle * logits, 1) * logits).sum(1)
        slope = float((expected - logits.gather(1, labels[:, None])[:, 0]).mean())
        low, high = (low, middle) if slope > 0 else (middle, high)
    return (low + high) / 2


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
