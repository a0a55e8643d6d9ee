"""`assembly`: which blocks are put together, within which budgets."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from .section import Batch, Count, Images, Limit, Ridge, Section, Text, Tries, once

Predictor = Literal[
    "accuracy", "likelihood", "naswot", "synflow", "params", "macs", "score",
    "naswot_paper", "synflow_paper", "jacov", "grad_norm", "snip", "fisher",
]  # as in proxies.csv  # fmt: skip
Kind = Literal["params", "macs", "memory", "latency"]  # of a cost


def place(lender: str) -> tuple[str, int | None]:
    """The network that an entry of `include` or `exclude` names, and the number of its block, from 1, None for all."""
    name, _, number = lender.partition(":")
    return name, int(number) if number else None


def _lender(given: str) -> str:
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]{0,63}(:[1-9][0-9]?)?", given):
        raise ValueError("should be the name of a network, or that and the number of one of its blocks: resnet:2")
    return given


Lenders = Annotated[list[Annotated[str, AfterValidator(_lender)]], AfterValidator(once)]


class AtLeast(Section):
    """Lower limits (C_min of DeRy, Eq. 11); null = none."""

    params: Limit | None = None
    macs: Limit | None = None
    memory: Limit | None = None
    latency: Limit | None = None

    def limits(self) -> dict[Kind, float]:
        """Those that there are, by kind."""
        return _given(self)


class Budget(Section):
    """Upper limits on the finished network, stitches and head counted in, and lower ones; null = none."""

    params: Limit | None
    macs: Limit | None
    memory: Limit | None = None
    latency: Limit | None = None
    at_least: AtLeast = AtLeast()

    def limits(self) -> dict[Kind, float]:
        """The upper limits that there are, by kind."""
        return _given(self)


def _given(limits: AtLeast | Budget) -> dict[Kind, float]:
    values: dict[Kind, float | None] = {
        "params": limits.params,
        "macs": limits.macs,
        "memory": limits.memory,
        "latency": limits.latency,
    }
    return {kind: value for kind, value in values.items() if value is not None}


Treatment = Literal["none", "statistics", "head", "layers", "layers_and_head"]
Wanted = Literal["auto", "none", "statistics", "head", "layers", "layers_and_head"]
CHOSEN: tuple[Treatment, ...] = ("statistics", "layers", "layers_and_head")  # among these where it is `auto`


class Assembly(Section):
    """Budgets and sources, how candidates are scored, and how the pool of the best of them is fitted and ranked.

    treatment: of what stands behind a stitch, without labels. statistics: BatchNorm's; in front of a block without any,
    mean and variance of the stitch; head: also the last source's head, if it is kept, is refitted to that source's own
    logits; layers: all layers of the blocks, to their sources' own outputs, each with weights pulled towards the given
    ones by `pull`, the head as it is; layers_and_head: both; auto: what the choosing half of the ranking images finds
    best for a chain among statistics, layers and layers_and_head.
    differ_by: blocks, counted by their networks, in which any two candidates of the pool differ at least; 0: smaller
    forms of the same blocks are candidates of their own, too.
    combine: how the logits of tails become one network's. mean: they are averaged; auto: they go through linear maps
    that are fitted to the labels of the choosing half, by `stacking_prior`, where such maps are more accurate on images
    of it that have not fitted them; for a single tail, too. Maps of what is saved: to both halves.
    """

    budget: Budget
    min_sources: Count = Field(le=64)
    max_sources: Annotated[int, Field(ge=1, le=64)] | None = None
    max_stitches: Annotated[int, Field(ge=1, le=63)] | None = None
    include: Lenders = Field(default_factory=list)
    exclude: Lenders = Field(default_factory=list)
    licences: Annotated[list[Text], Field(min_length=1)] | None = None
    score: Literal["replace_one", "stitch_r2", "cka"] = "stitch_r2"
    block_score: Literal["none", "similarity_to_anchor"] = "none"
    block_weight: float = Field(default=0.1, ge=0, le=1000)
    pool: Count = Field(le=10_000)
    differ_by: Annotated[int, Field(ge=0, le=64)] = 1
    tails: Annotated[int, Field(ge=1, le=8)] = 3
    trees: Annotated[int, Field(ge=1, le=1000)] = 4
    rank: Predictor = "accuracy"
    proxies: list[Predictor] = Field(default=["naswot", "synflow", "params", "macs", "score"])
    rank_on: Literal["validation", "train"] = "validation"
    head_images: Images
    rank_images: Images | None = None
    treatment: Wanted = "auto"
    pull: Ridge = 0.1
    combine: Literal["auto", "mean"] = "auto"
    stacking_prior: Ridge = 12.5
    head: Literal["ridge", "lda"] = "lda"
    head_shrinkage: float = Field(default=1e-3, ge=1e-10, le=1)
    random_assemblies: Tries
    random_search: Tries = 16
    paper_search: Tries | None = None
    batch_size: Batch

    @property
    def treatments(self) -> tuple[Treatment, ...]:
        """Those that are tried on every chain."""
        return CHOSEN if self.treatment == "auto" else (self.treatment,)

    @property
    def prior(self) -> float | None:
        """Of the maps of stacking; None where none are tried."""
        return self.stacking_prior if self.combine == "auto" else None

    @field_validator("max_sources")
    @classmethod
    def _not_below_min(cls, value: int | None, info: ValidationInfo) -> int | None:
        least = info.data.get("min_sources", 1)
        if value is not None and value < least:
            raise ValueError(f"should be at least min_sources = {least}")
        return value

    @field_validator("include")
    @classmethod
    def _one_a_place(cls, value: list[str]) -> list[str]:
        known: dict[int, str] = {}
        for lender in value:
            number = place(lender)[1]
            if number is not None and (other := known.setdefault(number, lender)) != lender:
                raise ValueError(f"a candidate has one block {number}, not {other} and {lender}")
        return value

    @field_validator("exclude")
    @classmethod
    def _not_included(cls, value: list[str], info: ValidationInfo) -> list[str]:
        included = info.data.get("include", ())
        both = sorted(own for own in included if own in value or place(own)[0] in value)
        if both:
            raise ValueError(f"{both[0]} is in include, too")
        return value
