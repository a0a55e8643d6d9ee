"""`dataset`: which images, and how they are divided."""

from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from .section import Count, Name, Section, Text

Share = Annotated[float, Field(ge=1e-4, lt=1)]


class Dataset(Section):
    """The images. `validation` and `test` are fractions; a source that brings its own test images keeps them; `options`
    are further arguments of the class `name`.
    """

    source: Literal["digits", "torchvision", "folder"]
    path: Text
    name: Text | None = Field(default=None, validate_default=True)
    options: dict[Name, bool | int | Text] = Field(default_factory=dict, exclude_if=lambda value: not value)
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

    @field_validator("options")
    @classmethod
    def _of_a_class(cls, value: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        if value and info.data.get("source") != "torchvision":
            raise ValueError("are arguments of a class of torchvision.datasets; the source is another one")
        return value

    @field_validator("test")
    @classmethod
    def _some_left(cls, value: float, info: ValidationInfo) -> float:
        if value + info.data.get("validation", 0) >= 1:
            raise ValueError("dataset.validation + dataset.test must stay below 1, the rest is for training")
        return value
