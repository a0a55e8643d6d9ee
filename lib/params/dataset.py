"""`dataset`: which images, and how they are divided."""

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from .section import Count, Section, Text

Share = Annotated[float, Field(ge=1e-4, lt=1)]


class Dataset(Section):
    """The images. `validation` and `test` are fractions; a source that brings its own test images keeps them."""

    source: Literal["digits", "torchvision", "folder"]
    path: Text
    name: Text | None = Field(default=None, validate_default=True)
    image_size: Count = Field(le=4096)
    validation: Share
    test: Share
    probe_images: int = Field(ge=2, le=1_000_000)

    @field_validator("name")
    @classmethod
    def _named(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is None and info.data.get("source") == "torchvision":
            raise ValueError("source torchvision needs a class of torchvision.datasets such as CIFAR10")
        return value

    @field_validator("test")
    @classmethod
    def _some_left(cls, value: float, info: ValidationInfo) -> float:
        if value + info.data.get("validation", 0) >= 1:
            raise ValueError("dataset.validation + dataset.test must stay below 1, the rest is for training")
        return value
