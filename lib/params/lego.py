"""`lego`: which components are assembled into one classifier, in which form."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from .section import Classes, Count, Images, Limit, Names, Ridge, Section
from .training import Tuning

Method = Literal["none", "winning_score", "temperature", "affine"]


class Budget(Section):
    """Limits on an assembly in parallel form; None is no limit."""

    params: Limit | None = None
    macs: Limit | None = None


class Choose(Section):
    """Which of `models` supplies which of `classes` (written as in a zoo entry), within `budget`.

    least: classes that a network supplies if it supplies any. What whole networks say to half of the validation images
    is kept, and of all combinations, or those near what an integer program proposes, the best is taken, then the best
    with fewer networks, and so on; these are cut out and repaired, and the same images decide. The other half predicts.
    """

    classes: Classes
    models: Names = Field(min_length=1)
    budget: Budget = Budget()
    least: Count = Field(default=2, le=100_000)


class Lego(Section):
    """The components, in the order of their outputs, or how to choose them; how their scores are made comparable.

    scaling_ridge: pull of temperature and affine towards no scaling, times the squared distance from it; tuning:
    training of the assembled network on all train images of its classes, or None; its budget is that of `choose`.
    """

    components: Annotated[Names, Field(min_length=2)] | None = None
    choose: Choose | None = None
    form: Literal["parallel", "padded"] = "parallel"
    scaling: Method
    scaling_images_per_class: Images
    scaling_ridge: Ridge = 1e-3
    tuning: Tuning | None = None

    @model_validator(mode="after")
    def _one_way(self) -> "Lego":
        if (self.components is None) == (self.choose is None):
            raise ValueError("give either components, by name, or choose, the other null")
        return self
