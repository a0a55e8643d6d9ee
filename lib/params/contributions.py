"""`contributions`: relative contributions and component masks (MDA)."""

from typing import Literal

from pydantic import Field

from .section import Batch, Fraction, Images, Names, Section


class Threshold(Section):
    """alpha: on the soft relative contribution; beta: on the aggregated one."""

    alpha: Fraction
    beta: Fraction


class Contributions(Section):
    """Which networks are taken apart, from how many images a class, by what score and where the thresholds lie."""

    models: Names = Field(min_length=1)
    images_per_class: Images
    score: Literal["contribution", "taylor", "magnitude", "random"] = "contribution"
    batchnorm: Literal["apart", "folded"] = "apart"
    hard: Literal["binary", "soft"] = "binary"
    conv: Threshold
    linear: Threshold
    batch_size: Batch

    @property
    def thresholds(self) -> dict[Literal["conv", "linear"], Threshold]:
        """The thresholds by kind of layer."""
        return {"conv": self.conv, "linear": self.linear}
