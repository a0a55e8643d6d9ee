"""`partition`: the cover-set partition (DeRy, Eq. 2-5)."""

from typing import Literal, Self

from pydantic import Field, model_validator

from lib.params.base import Count, Section


class Weights(Section):
    """S = start * s(start, start') + end * s(end, end')."""

    start: float = Field(ge=0)
    end: float = Field(ge=0)

    @model_validator(mode="after")
    def _one_counts(self) -> Self:
        if self.start == self.end == 0:
            raise ValueError("start or end must be above 0")
        return self


class Partition(Section):
    """K blocks a model, size limit floor((1 + eps) ceil(|M| / K)), what similarity counts, the solver and its proof."""

    num_blocks: int = Field(ge=2)
    epsilon: float = Field(ge=0)
    size: Literal["nodes", "params", "macs"]
    start: Literal["input", "first_output"]
    weights: Weights
    solver: Literal["dp", "milp", "kernighan_lin"]
    starts: Count
    bound: Literal["exact", "relaxation", "none"]
    gap: float = Field(ge=0, lt=1)
    random_partitions: Count
