"""`finetune`: tuning of the assembled candidates."""

from typing import Annotated

from pydantic import Field

from lib.params.base import Section
from lib.params.training import Training

Rank = Annotated[int, Field(ge=1)]


class Finetune(Section):
    """Which candidates are tuned, and the two protocols: frozen (stitches and head), then full; 0 epochs = skipped."""

    ranks: list[Rank] = Field(min_length=1)
    frozen: Training
    full: Training
