"""MACs, as a control: fewer are better."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..assembled import Assembled

BETTER = "low"


def predict(made: "Assembled") -> float:
    """Of the finished network, for an image."""
    return made.candidate.cost["macs"]
