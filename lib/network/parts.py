"""The parts of a reassembled network and where it ends, as its recipe names and stores them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from ..base.errors import BrickyardError
from ..base.stored import CHECKED, Count, Indices, Name, Size, Text
from ..chain.layout import Kind, Layout
from .blocks import Block

Json = dict[str, Any]


@dataclass(frozen=True)
class NewHead:
    """A linear head in closed form on what leaves the last block: its method and strength, and how many labelled
    images of the data with the checksum `data` it has seen.
    """

    __pydantic_config__ = CHECKED

    layout: Layout
    method: Literal["ridge", "lda"]
    shrinkage: Annotated[float, Field(ge=0)]
    images: Count
    data: Text


class Grid(BaseModel):
    """A layout as a stitch has it."""

    model_config = CHECKED
    kind: Kind
    channels: Size
    height: Size = 1
    width: Size = 1
    prefix: Annotated[int, Field(ge=0, le=1000)] = 0
    window: Size = 1


class BlockPart(BaseModel):
    """A block of a source as recipe.json has it, with the names of its nodes. after: the part that it reads, None for
    the images; width: share of the channels inside that it has; kept: where that is less than 1, the output channels
    that layers of the narrow source keep, of the others all.
    """

    model_config = CHECKED
    name: Name
    after: Name | None
    kind: Literal["block"]
    source: Name
    start: Count
    stop: Count
    nodes: tuple[Text, ...]
    recalibrated: Literal["none", "statistics", "head", "layers"] = "none"
    width: Annotated[float, Field(gt=0, le=1)] = 1.0
    kept: dict[Text, Indices] = Field(default_factory=dict)


class StitchPart(BaseModel):
    """What a `Stitch` is made with, and how well it fits."""

    model_config = CHECKED
    name: Name
    after: Name
    kind: Literal["stitch"]
    source: Grid
    target: Grid
    patch: Annotated[int, Field(ge=1, le=64)] = 1
    form: Literal["linear", "paper"] = "linear"
    r2: float = 0.0


@dataclass(frozen=True)
class Stacking:
    """What a head's last layer went through: a linear map of its logits, fitted with those of all tails to so many
    labelled images, by this ridge.
    """

    __pydantic_config__ = CHECKED

    images: Count
    ridge: Annotated[float, Field(gt=0)]


@dataclass(frozen=True)
class Tail:
    """Where a tree ends. after: the block that its head reads; head: the name of the source whose own it is, or what
    made a new one; weight: of its logits in the sum, all of which add up to 1; refitted: whether a source's own head
    was fitted to what reaches it here; stacked: with the other tails' to labels.
    """

    __pydantic_config__ = CHECKED

    after: Name
    head: Name | NewHead
    weight: Annotated[float, Field(ge=0)] = 1.0
    refitted: bool = False
    stacked: Stacking | None = None


Part = Annotated[BlockPart | StitchPart, Field(discriminator="kind")]


def line(parts: Sequence[Json]) -> tuple[Json, ...]:
    """Parts that follow each other, as a recipe has them: named `resnet_1_3` for nodes 1 to 3 of resnet, `stitch_1`.

    Raises BrickyardError where a block appears twice.
    """
    found: list[Json] = []
    for part in parts:
        name = part_name(part, 1 + sum(one["kind"] == "stitch" for one in found))
        if any(one["name"] == name for one in found):
            raise BrickyardError(f"the block {name} appears twice")
        found.append({"name": name, "after": found[-1]["name"] if found else None, **part})
    return tuple(found)


def part_name(part: Json, stitch: int) -> str:
    """The name of a part: of a block by its source and nodes, and width in percent, of a stitch by its number."""
    if part["kind"] == "stitch":
        return f"stitch_{stitch}"
    narrow = f"_at_{100 * part['width']:g}".replace(".", "_") if block_of(part).narrow else ""
    return f"{part['source']}_{part['start'] + 1}_{part['stop']}{narrow}"


def block_of(part: Json) -> Block:
    """The nodes of a part that is a block."""
    return Block(part["source"], part["start"], part["stop"], part.get("width", 1.0))


def may_follow(part: Json, before: Json | None) -> bool:
    """Whether a part may read another: a block a stitch, or a block of its own source that ends where it begins, or,
    with its first node, the images; a stitch a block.
    """
    if part["after"] is None:
        return part["kind"] == "block" and part["start"] == 0
    if before is None:
        return False
    if part["kind"] == "stitch" or before["kind"] == "stitch":
        return part["kind"] != before["kind"]
    return (before["source"], before["stop"]) == (part["source"], part["start"])
