"""Accuracy without tuning, on a few labelled images."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..assembled import Assembled

BETTER = "high"


def predict(made: "Assembled") -> float:
    """In percent, on the ranking images."""
    return made.accuracy()
