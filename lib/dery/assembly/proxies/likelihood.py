"""Likelihood of the labels without tuning: tells finer than accuracy on few images."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..built import Built

BETTER = "high"


def predict(made: "Built") -> float:
    """Mean log-likelihood of the labels of the ranking images, in nats."""
    return made.likelihood()
