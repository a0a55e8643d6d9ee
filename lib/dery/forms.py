"""What the JSON artifacts of this wing hold, for those who read them: a file of another form is one line."""

from typing import Annotated

from pydantic import BaseModel, Field

Count = Annotated[int, Field(ge=0)]


class Row(BaseModel):
    """A row of the similarity matrix: a node and, where blocks are sized by it, what it costs."""

    model: str
    node: str
    params: Count = 0
    macs: Count = 0


class Nodes(BaseModel):
    """nodes.json of stage `similarity`."""

    nodes: list[Row] = Field(min_length=1)


class Link(BaseModel):
    """A node of a chain, as chain.json holds it."""

    name: str
    params: Count
    macs: Count


class Chained(BaseModel):
    """chain.json of stage `activations`."""

    nodes: list[Link] = Field(min_length=1)
