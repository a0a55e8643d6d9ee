"""`bricks`: in which smaller forms blocks are on offer, beside the whole ones."""

from typing import Annotated

from pydantic import AfterValidator, Field

from .section import Names, Section


def _different(widths: list[float]) -> list[float]:
    if len({*widths}) < len(widths):
        raise ValueError("a width occurs twice")
    return widths


Widths = Annotated[list[Annotated[float, Field(ge=0.01, le=1)]], Field(max_length=16), AfterValidator(_different)]


class Bricks(Section):
    """Smaller forms of every block, which fit where the whole one does.

    widths: shares of the channels inside a block that stay; those that contribute most to the task's classes (MDA), and
        what is left is repaired in closed form to give what the whole block gave. 1 is the whole block.
    skip: single nodes are left out, with a fitted stitch in their place.
    models: networks that are offered so; None: all that can be.
    """

    widths: Widths = Field(default_factory=lambda: [1.0])
    skip: bool = False
    models: Names | None = None

    @property
    def narrow(self) -> list[float]:
        """The widths below 1, widest first."""
        return sorted((width for width in self.widths if width < 1), reverse=True)
