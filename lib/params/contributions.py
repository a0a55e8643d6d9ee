"""`contributions`: relative contributions and component masks (MDA)."""

from typing import Literal

from pydantic import Field, field_validator

from lib.params.base import Count, Fraction, Section


class Threshold(Section):
    """alpha: on the soft relative contribution; beta: on the aggregated one."""

    alpha: Fraction
    beta: Fraction


class Contributions(Section):
    """Which networks are taken apart, from how many images a class, by what score and where the thresholds lie."""

    models: list[str] = Field(min_length=1)
    images_per_class: Count
    score: Literal["contribution", "taylor", "magnitude", "random"] = "contribution"
    batchnorm: Literal["apart", "folded"] = "apart"
    hard: Literal["binary", "soft"] = "binary"
    conv: Threshold
    linear: Threshold
    batch_size: Count

    @field_validator("models")
    @classmethod
    def _once(cls, models: list[str]) -> list[str]:
        for name in models:
            if models.count(name) > 1:
                raise ValueError(f"{name!r} is named twice")
        return models

    @property
    def thresholds(self) -> dict[Literal["conv", "linear"], Threshold]:
        """By layer kind."""
        return {"conv": self.conv, "linear": self.linear}
