"""Accuracy without tuning, on a few labelled images."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..built import Built

BETTER = "high"


def predict(made: "Built") -> float:
    """Accuracy in percent on the ranking images."""
    return made.accuracy()
