"""The number of parameters, as a control: smaller is better."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..assembled import Assembled

BETTER = "low"


def predict(made: "Assembled") -> float:
    """Of the finished network."""
    return made.candidate.cost["params"]
