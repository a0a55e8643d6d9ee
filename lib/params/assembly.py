"""`assembly`: which blocks are put together, within which budgets."""

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from .section import Batch, Count, Images, Limit, Names, Ridge, Section, Text, Tries

Predictor = Literal[
    "accuracy", "likelihood", "naswot", "synflow", "params", "macs", "score",
    "naswot_paper", "synflow_paper", "jacov", "grad_norm", "snip", "fisher",
]  # as in proxies.csv  # fmt: skip


class Budget(Section):
    """Upper limits on the finished network, stitches and head counted in; null = none."""

    params: Limit | None
    macs: Limit | None
    memory: Limit | None = None
    latency: Limit | None = None

    def limits(self) -> dict[Literal["params", "macs", "memory", "latency"], float | None]:
        """The limits by kind."""
        return {"params": self.params, "macs": self.macs, "memory": self.memory, "latency": self.latency}


class Stitching(Section):
    """How stitches come about, and what is done behind them, without labels. init: all but the paper's are linear maps;
    that has a norm, a bias-free (strided) convolution with random weights and a LeakyReLU, and is made to be trained.

    recalibrate: statistics: BatchNorm's; in front of a block without any, mean and variance of the stitch; head: also
    the last source's head, if it is kept, is refitted to that source's own logits; layers: also all layers of the
    blocks, to their sources' own outputs, each with weights pulled towards the given ones by `pull`.
    """

    init: Literal["least_squares", "random", "identity", "paper"] = "least_squares"
    down: Literal["auto", "pool", "patch"] = "auto"
    recalibrate: Literal["none", "statistics", "head", "layers"] = "layers"
    pull: Ridge = 0.1


class Assembly(Section):
    """Budgets and sources, how candidates are scored, and how the pool of the best of them is fitted and ranked."""

    budget: Budget
    min_sources: Count = Field(le=64)
    max_sources: Annotated[int, Field(ge=1, le=64)] | None = None
    include: Names = Field(default_factory=list)
    exclude: Names = Field(default_factory=list)
    licences: Annotated[list[Text], Field(min_length=1)] | None = None
    score: Literal["stitch_r2", "cka"] = "stitch_r2"
    block_score: Literal["none", "similarity_to_anchor"] = "none"
    block_weight: float = Field(default=0.1, ge=0, le=1000)
    pool: Count = Field(le=10_000)
    tails: Annotated[int, Field(ge=1, le=8)] = 3
    trees: Annotated[int, Field(ge=1, le=1000)] = 4
    rank: Predictor = "accuracy"
    proxies: tuple[Predictor, ...] = ("naswot", "synflow", "params", "macs", "score")
    rank_on: Literal["validation", "train"] = "validation"
    head_images: Images
    rank_images: Images
    ridge: Ridge
    stitch: Stitching = Stitching()
    head: Literal["ridge", "lda"] = "lda"
    head_shrinkage: float = Field(default=1e-3, ge=1e-10, le=1)
    random_assemblies: Tries
    random_search: Tries = 16
    batch_size: Batch

    @field_validator("max_sources")
    @classmethod
    def _not_below_min(cls, value: int | None, info: ValidationInfo) -> int | None:
        least = info.data.get("min_sources", 1)
        if value is not None and value < least:
            raise ValueError(f"should be at least min_sources = {least}")
        return value

    @field_validator("exclude")
    @classmethod
    def _not_included(cls, value: list[str], info: ValidationInfo) -> list[str]:
        both = sorted(set(value) & set(info.data.get("include", ())))
        if both:
            raise ValueError(f"{both[0]} is in include, too")
        return value
