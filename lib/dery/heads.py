"""Heads: the layer on top of the last block, fitted in closed form for a task that its source does not know."""

from collections.abc import Iterable

import torch
from torch import nn
from torch.nn import functional as F

from lib.data import Batch
from lib.layout import Layout
from lib.ridge import NormalEquations


class LinearHead(nn.Module):
    """Global average pooling and one linear layer."""

    def __init__(self, source: Layout, num_classes: int):
        super().__init__()
        self.source = source
        self.classifier = nn.Linear(source.channels, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """A batch in the source's layout -> logits [b, classes]."""
        return self.classifier(self.source.pool(x))


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
