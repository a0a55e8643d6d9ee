"""Recipes: what a reassembled network is made of, in JSON: enough to build it again, to credit and to repeat it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from ...base.errors import BrickyardError
from ...base.stored import CHECKED, ClassNames, Count, Name, Seal, Size, Text, parse
from ...chain.chain import Chain
from ...chain.layout import Layout
from ...trace.cost import Cost, Counted
from ...zoo.architecture import Bounded
from ...zoo.networks import Architecture, Card, Input
from .heads import Method

FORMAT = 2  # of recipe.json
Json = dict[str, Any]


@dataclass(frozen=True)
class Source:
    """A zoo network that lent blocks: enough to build its architecture again, where the weights came from (`train` =
    trained here), the checksum of all of them, their licence. nodes: module paths that its user declared, if any.
    """

    __pydantic_config__ = CHECKED

    architecture: Architecture
    input: Input
    nodes: tuple[Text, ...]
    weights: Text
    licence: Text
    checksum: Seal

    @classmethod
    def of(cls, card: Card) -> "Source":
        """What a recipe needs of a zoo card."""
        return cls(card.architecture, card.input, card.nodes, card.weights, card.licence, card.checksum)

    def chain(self, name: str, trust: bool = False, room: Bounded | None = None) -> Chain:
        """The source's chain with random weights, see `Architecture.build`."""
        return Chain(name, self.architecture.build(trust, room), self.input.shape, declared=self.nodes)


@dataclass(frozen=True)
class NewHead:
    """A linear head in closed form on what leaves the last block: its method and strength, and how many labelled
    images of the data with the checksum `data` it has seen.
    """

    __pydantic_config__ = CHECKED

    layout: Layout
    method: Method
    shrinkage: Annotated[float, Field(ge=0)]
    images: Count
    data: Text


class Grid(BaseModel):
    """A layout as a stitch has it."""

    model_config = CHECKED
    kind: Literal["nchw", "nhwc", "tokens", "windows", "pooled"]
    channels: Size
    height: Size = 1
    width: Size = 1
    prefix: Annotated[int, Field(ge=0, le=1000)] = 0
    window: Size = 1


class Block(BaseModel):
    """Nodes start + 1 to stop of a source; its name is made anew."""

    model_config = CHECKED
    name: Text = ""
    kind: Literal["block"]
    source: Name
    start: Count
    stop: Count
    nodes: tuple[Text, ...]
    recalibrated: Literal["none", "statistics", "head", "layers"] = "none"


class Join(BaseModel):
    """What a `Stitch` is made with, and how well it fits."""

    model_config = CHECKED
    name: Text = ""
    kind: Literal["stitch"]
    source: Grid
    target: Grid
    patch: Annotated[int, Field(ge=1, le=64)] = 1
    r2: float = 0.0


Part = Annotated[Block | Join, Field(discriminator="kind")]


class Stored(BaseModel):
    """recipe.json."""

    model_config = CHECKED
    kind: Literal["reassembled"]
    format: Literal[2]
    sources: Annotated[dict[Name, Source], Field(min_length=1, max_length=64)]
    licences: tuple[Text, ...] = ()
    parts: Annotated[tuple[Part, ...], Field(min_length=1, max_length=256)]
    head: Name | NewHead
    input: Input
    classes: Annotated[ClassNames, Field(min_length=2)]
    tuning: Annotated[tuple[dict[Text, Any], ...], Field(max_length=1000)]
    cost: Counted
    versions: Annotated[dict[Text, Text], Field(max_length=100)]
    checksum: Seal


def versions() -> dict[str, str]:
    """Of what builds the sources."""
    return {name: version(name) for name in ("timm", "torch", "torchvision")}


@dataclass(frozen=True)
class Recipe:
    """parts: blocks {source, start, stop, nodes: their names, recalibrated: behind a stitch, what the block and a head
    of the same source went through, see `Stitching`} and stitches {source, target, what else `Stitch` takes, r2: of its
    fit}, in order; head: the name of the source whose own it is, or what made a new one; input: that of the first
    source; tuning: protocols it went through, with all settings; versions: of what builds the sources; checksum: of the
    weights.
    """

    sources: dict[str, Source]
    parts: tuple[Json, ...]
    head: str | NewHead
    input: Input
    classes: tuple[str, ...]
    tuning: tuple[Json, ...] = ()
    cost: Cost = field(default_factory=Cost)
    versions: dict[str, str] = field(default_factory=lambda: versions())
    checksum: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """Of the parts: `resnet_1_3` for nodes 1 to 3 of resnet, `stitch_1`, ... They begin the keys of a state_dict.

        Raises BrickyardError where a block appears twice.
        """
        found: list[str] = []
        stitches = 0
        for part in self.parts:
            block = part["kind"] == "block"
            stitches += not block
            name = f"{part['source']}_{part['start'] + 1}_{part['stop']}" if block else f"stitch_{stitches}"
            if name in found:
                raise BrickyardError(f"the block {name} appears twice")
            found.append(name)
        return tuple(found)

    @property
    def licences(self) -> tuple[str, ...]:
        """Those of all sources."""
        return tuple(sorted({source.licence for source in self.sources.values()}))

    def blocks(self) -> list[str]:
        """The blocks in words: `resnet 0:3`, nodes 1 to 3."""
        return [f"{p['source']} {p['start']}:{p['stop']}" for p in self.parts if p["kind"] == "block"]

    def to_dict(self) -> Json:
        """For JSON."""
        parts = [{"name": name, **part} for name, part in zip(self.names, self.parts, strict=True)]
        stored = asdict(self)
        sources = stored.pop("sources")
        return {
            **{"kind": "reassembled", "format": FORMAT, "sources": sources, "licences": self.licences},
            **{**stored, "parts": parts},
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> "Recipe":
        """A recipe from its JSON form. Raises BrickyardError for another kind or format and for what is no recipe."""
        kind = stored.get("kind") if isinstance(stored, Mapping) else None
        if kind != "reassembled":
            raise BrickyardError(f"kind = {kind!r}: not the recipe of a reassembled network")
        if stored.get("format") != FORMAT:
            made = stored.get("format", 1)
            raise BrickyardError(f"format = {made!r}: this code reads format {FORMAT} alone; dvc repro")
        found = parse(Stored, stored)
        return cls(
            sources=found.sources,
            parts=tuple({k: v for k, v in part.items() if k != "name"} for part in stored["parts"]),
            head=found.head,
            input=found.input,
            classes=found.classes,
            tuning=found.tuning,
            cost=found.cost,
            versions=found.versions,
            checksum=found.checksum,
        )._checked()

    def _checked(self) -> "Recipe":
        """Raises BrickyardError where parts or head do not belong to the sources and classes."""
        blocks = [part["source"] for part in self.parts if part["kind"] == "block"]
        for name in [*blocks, *([self.head] if isinstance(self.head, str) else [])]:
            if name not in self.sources:
                raise BrickyardError(f"{name!r} is none of its sources: {', '.join(self.sources)}")
        if not blocks:
            raise BrickyardError("damaged: it has no blocks; dvc repro")
        assert len(self.names) == len(self.parts)
        return self
