"""`partition`: the cover-set partition (DeRy, Eq. 2-5)."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from .section import Section, Tries


def _none_or_some(value: float) -> float:
    if value != 0 and value < 1e-3:
        raise ValueError("should be 0 or at least 0.001")
    return value


Weight = Annotated[float, Field(ge=0, le=1000), AfterValidator(_none_or_some)]


class Weights(Section):
    """S = start * s(start, start') + end * s(end, end')."""

    start: Weight
    end: Weight

    @model_validator(mode="after")
    def _one_counts(self) -> Self:
        if self.start == self.end == 0:
            raise ValueError("start or end must be above 0")
        return self


class Partition(Section):
    """K blocks a model, size limit floor((1 + eps) ceil(|M| / K)), what similarity counts, the solver and its proof.

    cuts: sets: where the solver finds the most similar sets of blocks; free: at equal depths, in units of `size`, for a
        large K and `assembly.max_stitches`.
    """

    cuts: Literal["sets", "free"] = "sets"
    num_blocks: int = Field(ge=2, le=64)
    epsilon: float = Field(ge=0, le=100)
    size: Literal["nodes", "params", "macs"]
    start: Literal["input", "first_output"]
    weights: Weights
    solver: Literal["dp", "milp", "kernighan_lin"]
    starts: Tries
    bound: Literal["exact", "relaxation", "none"]
    gap: float = Field(ge=0, lt=1)
    random_partitions: Tries
