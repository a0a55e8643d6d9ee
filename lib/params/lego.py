"""`lego`: which components are assembled into one classifier."""

from typing import Literal

from pydantic import Field

from lib.params.base import Count, Section


class Lego(Section):
    """The components, in the order of their outputs, and how their scores are made comparable."""

    components: list[str] = Field(min_length=2)
    scaling: Literal["none", "winning_score"]
    scaling_images_per_class: Count
