"""`study`: the zoos, the budgets, and how long networks learn."""

from typing import Annotated

from pydantic import AfterValidator, Field

from lib.params.section import Count, Fraction, Images, Name, Names, Section, Text, once
from studies.frontier.scenario import Scenario


class Study(Section):
    """zoos: by name.

    apart: by zoo, so many test images are validation images in a second count, for networks that have seen ours.
    full: zoos whose networks learn whole, too.
    budgets, full_budgets: of a kind; at how many all is told, and at how many of them everything learns.
    shares: of a network's parameters, to which MDA cuts it.
    widths: of last blocks, and of networks narrow in every block, that our pool has beside whole ones, as shares of the
        channels inside.
    select_images: train images among which those for contributions are selected.
    frozen_images, full_images: train images of the two protocols.
    distillation: weight of the teacher's answers, where one teaches.
    """

    images: Text | None
    checkpoints: Text | None
    zoos: dict[Name, Scenario]
    apart: dict[Name, Images]
    full: Names
    budgets: Annotated[int, Field(ge=2, le=1000)]
    full_budgets: Count
    shares: Annotated[list[Fraction], AfterValidator(once)]
    widths: Annotated[list[Fraction], AfterValidator(once)]
    select_images: Images
    frozen_images: Images
    full_images: Images
    distillation: Annotated[float, Field(gt=0, lt=1)]
