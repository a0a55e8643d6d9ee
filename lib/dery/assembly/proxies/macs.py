"""MACs, as a control: fewer are better."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..built import Built

BETTER = "low"


def predict(made: "Built") -> float:
    """MACs of the finished network for an image."""
    return made.candidate.cost["macs"]
