"""`assembly`: which blocks are put together, within which budgets."""

from pydantic import Field

from lib.params.base import Count, Section


class Budget(Section):
    """Upper limits on the finished network, stitches and head counted in; null = none."""

    params: float | None = Field(gt=0)
    macs: float | None = Field(gt=0)


class Assembly(Section):
    """Budgets, the size of the pool that the integer program proposes, and how it is fitted and ranked."""

    budget: Budget
    min_sources: Count
    pool: Count
    head_images: Count
    rank_images: Count
    ridge: float = Field(gt=0)
    random_assemblies: Count
    batch_size: Count
