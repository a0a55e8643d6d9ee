"""What the sections of `params.yaml` are made of: kinds of values, each with limits beyond which nothing is meant."""

import unicodedata
from collections.abc import Sequence
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


class Section(BaseModel):
    """A section of `params.yaml` or a part of one: values cannot change, unknown keys, infinity and NaN are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def one_line(text: str) -> str:
    """`text`; raises ValueError where it has characters that no name, path or title has."""
    if any(unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in text):
        raise ValueError("should be one line without control characters")
    return text


def once(names: Sequence[str]) -> Sequence[str]:
    """`names`; raises ValueError where one of them occurs again."""
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{name!r} is named twice")
    return names


Fraction = Annotated[float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
Batch = Annotated[int, Field(ge=1, le=65_536)]  # images at a time
Images = Annotated[int, Field(ge=1, le=10_000_000)]
Tries = Annotated[int, Field(ge=1, le=1_000_000)]  # of a search or a control
Ridge = Annotated[float, Field(ge=1e-10, le=1e6)]  # with less, float64 does not tell X'X from a singular matrix
Limit = Annotated[float, Field(ge=1e-3, le=1e15)]  # of a budget
Text = Annotated[str, Field(min_length=1, max_length=1000), AfterValidator(one_line)]
Classes = Annotated[str, Field(min_length=1, max_length=100_000), AfterValidator(one_line)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]*$", max_length=64)]  # of an item; part of paths, commands
Names = Annotated[list[Name], AfterValidator(once)]
