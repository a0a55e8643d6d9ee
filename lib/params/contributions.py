"""`contributions`: relative contributions and component masks (MDA)."""

from pydantic import Field

from lib.params.base import Count, Fraction, Section


class Threshold(Section):
    """alpha: on the soft relative contribution; beta: on the aggregated one."""

    alpha: Fraction
    beta: Fraction


class Contributions(Section):
    """Which networks are taken apart, from how many images a class, and where the thresholds lie."""

    models: list[str] = Field(min_length=1)
    images_per_class: Count
    conv: Threshold
    linear: Threshold
    batch_size: Count
