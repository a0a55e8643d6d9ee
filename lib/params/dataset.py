"""`dataset`: which images, and how they are divided."""

from typing import Literal

from pydantic import model_validator

from lib.params.base import Count, Fraction, Section


class Dataset(Section):
    """The images. `validation` and `test` are fractions; a source that brings its own test images keeps them."""

    source: Literal["digits", "torchvision", "folder"]
    path: str
    name: str | None = None
    image_size: Count
    validation: Fraction
    test: Fraction
    probe_images: Count

    @model_validator(mode="after")
    def _check(self) -> "Dataset":
        if self.source == "torchvision" and not self.name:
            raise ValueError("source torchvision needs dataset.name, a class of torchvision.datasets such as CIFAR10")
        if self.validation + self.test >= 1:
            raise ValueError("validation + test must stay below 1, the rest is for training")
        return self
