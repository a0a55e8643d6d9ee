"""`lego`: which components are assembled into one classifier, in which form."""

from typing import Annotated, Literal

from pydantic import Field

from lib.params.base import Count, Section

Method = Literal["none", "winning_score", "temperature", "affine"]


class Lego(Section):
    """The components, in the order of their outputs, and how their scores are made comparable.

    scaling_ridge: pull of temperature and affine towards no scaling, times the squared distance from it.
    """

    components: list[str] = Field(min_length=2)
    form: Literal["parallel", "padded"] = "parallel"
    scaling: Method
    scaling_images_per_class: Count
    scaling_ridge: Annotated[float, Field(gt=0)] = 1e-3
