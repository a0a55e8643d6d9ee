"""How well one ranking foretells another."""

from collections.abc import Sequence

import numpy as np


def kendall_tau(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Kendall's tau-b of two lists of numbers: 1 in the same order, -1 in reverse; None where all of one are equal."""
    signs = [np.sign(np.subtract.outer(x, x)) for x in (_ranks(a), _ranks(b))]
    scale = np.sqrt((signs[0] ** 2).sum() * (signs[1] ** 2).sum())
    return float((signs[0] * signs[1]).sum() / scale) if scale else None


def _ranks(values: Sequence[float]) -> np.ndarray:
    """Places in ascending order, equal values sharing one: infinities cannot be subtracted."""
    return np.unique(np.asarray(values, dtype=float), return_inverse=True)[1]
