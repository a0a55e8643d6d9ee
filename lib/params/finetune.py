"""`finetune`: tuning of the assembled candidates."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from .section import Ridge, Section, once
from .training import Tuning

Rank = Annotated[int, Field(ge=1, le=10_000)]


class Finetune(Section):
    """Which candidates are tuned, and the two protocols: frozen (stitches and head), then full; 0 epochs = skipped.

    combine: what becomes of the tails' logits in the end. mean: they stay as tuning leaves them; auto: they go through
    linear maps that are fitted to the labels of all validation images, by `stacking_prior`, where such maps are more
    accurate on images of these that have not fitted them, or heads were stacked already; controls alike.
    """

    ranks: Annotated[list[Rank], Field(min_length=1), AfterValidator(once)]
    frozen: Tuning
    full: Tuning
    combine: Literal["auto", "mean"] = "auto"
    stacking_prior: Ridge = 12.5
