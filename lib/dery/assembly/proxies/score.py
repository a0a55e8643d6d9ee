"""What the integer program maximises (DeRy, Eq. 8): the predicted score of the path."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..built import Built

BETTER = "high"


def predict(made: "Built") -> float:
    """The score of the path, known before anything is put together."""
    return made.candidate.score
