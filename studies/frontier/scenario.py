"""The zoos of this study, apart from the rest of its params, on which no network that is trained depends."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from lib.params.section import Images, Name, Names, Section, once

Condition = Literal["sharp", "blurred", "grey", "compressed"]
Conditions = Annotated[list[Condition], Field(min_length=1), AfterValidator(once)]


class Scenario(Section):
    """A zoo and its task.

    conditions: those of the task's images, equally often, drawn by seed.
    train_images: a sample on which each network is trained here, null = all.
    learns: the conditions that networks are trained under, by name; the others are under those of the task.
    """

    networks: Names = Field(min_length=2)
    conditions: Conditions = Field(default_factory=lambda: ["sharp"])
    train_images: Images | None = None
    learns: dict[Name, Conditions] = Field(default_factory=dict)
