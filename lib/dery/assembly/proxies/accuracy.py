"""Accuracy without tuning, on a few labelled images."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..built import Built

BETTER = "high"


def predict(made: "Built") -> float:
    """In percent, on the ranking images."""
    return made.accuracy()
