"""`partition`: the cover-set partition (DeRy, Eq. 2-5)."""

from typing import Literal

from pydantic import Field

from lib.params.base import Count, Section


class Partition(Section):
    """K blocks a model, size limit floor((1 + eps) ceil(L / K)) nodes, and the solver's random starts."""

    num_blocks: int = Field(ge=2)
    epsilon: float = Field(ge=0)
    start: Literal["input", "first_output"]
    starts: Count
    random_partitions: Count
