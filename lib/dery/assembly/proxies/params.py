"""The number of parameters, as a control: smaller is better."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..built import Built

BETTER = "low"


def predict(made: "Built") -> float:
    """Parameters of the finished network."""
    return made.candidate.cost["params"]
