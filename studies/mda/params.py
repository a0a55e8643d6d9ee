"""`study`: what this study measures besides what the project's stages do."""

from typing import Annotated

from pydantic import Field

from lib.params.section import Images, Limit, Name, Names, Section, Text


class Study(Section):
    """assemblies: by name, which network supplies which classes, by their numbers; budgets: parameters, null = any."""

    images: Text | None
    checkpoints: Text | None
    validation_images: Images
    select_images: Images | None
    tuning_images: Images
    compared: Names
    routes: Names
    assemblies: dict[Name, dict[Name, list[Annotated[int, Field(ge=0)]]]]
    budgets: list[Limit | None]
