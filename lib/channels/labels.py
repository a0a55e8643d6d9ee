"""Labels of elements: tensors that are of length one along the dimensions along which they do not vary."""

from collections.abc import Sequence

import torch


def varying(labels: torch.Tensor) -> list[int]:
    """The dimensions along which labels vary."""
    return [dim for dim, length in enumerate(labels.shape) if length > 1]


def expanded(labels: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """Labels in the shape of the value that they belong to, without taking room for it."""
    return labels.expand(tuple(shape))


def compact(labels: torch.Tensor) -> torch.Tensor:
    """The same of length one along every dimension along which all are equal."""
    for dim in range(labels.ndim):
        if labels.shape[dim] > 1:
            first = labels.narrow(dim, 0, 1)
            if labels.stride(dim) == 0 or bool((labels == first).all()):
                labels = first
    return labels


def pairs(a: torch.Tensor, b: torch.Tensor) -> list[tuple[int, int]]:
    """The different pairs of labels that stand at one place of a and b, which are broadcast; equal ones left out."""
    one, other = torch.broadcast_tensors(a, b)
    differ = one != other
    found = torch.stack([one[differ], other[differ]], 1).unique(dim=0)
    return [(int(x), int(y)) for x, y in found.tolist()]
