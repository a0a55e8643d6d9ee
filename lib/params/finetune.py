"""`finetune`: tuning of the assembled candidates."""

from typing import Annotated

from pydantic import AfterValidator, Field

from .section import Section, once
from .training import Tuning

Rank = Annotated[int, Field(ge=1, le=10_000)]


class Finetune(Section):
    """Which candidates are tuned, and the two protocols: frozen (stitches and head), then full; 0 epochs = skipped."""

    ranks: Annotated[list[Rank], Field(min_length=1), AfterValidator(once)]
    frozen: Tuning
    full: Tuning
