"""`components`: the tasks whose components are cut out."""

from pydantic import Field

from lib.params.base import Name, Section


class Task(Section):
    """Some classes of one network, written as in a zoo entry."""

    model: str
    classes: str


class Components(Section):
    """Tasks by name."""

    tasks: dict[Name, Task] = Field(min_length=1)
