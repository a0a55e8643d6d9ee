"""The recipe of a reassembled network: blocks, stitches and a head (DeRy), in JSON: enough to build it again, to credit
and to repeat it.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, Field
from torch import nn

from ..base.errors import BrickyardError
from ..base.stored import CHECKED, ClassNames, Count, Name, Seal, Size, Text, parse_kind, stamped
from ..chain.chain import Chain
from ..chain.layout import Kind, Layout
from ..trace.cost import Cost, Counted
from ..trace.duplicate import duplicate
from ..zoo.architecture import MEMORY, Bounded, Trust
from ..zoo.card import Input
from .blocks import Block
from .modules import LinearHead, ReassembledNetwork, Stitch
from .source import Source

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
    """A block of a source as recipe.json has it, with the names of its nodes; its own name is made anew."""

    model_config = CHECKED
    name: Text = ""
    kind: Literal["block"]
    source: Name
    start: Count
    stop: Count
    nodes: tuple[Text, ...]
    recalibrated: Literal["none", "statistics", "head", "layers"] = "none"


class StitchPart(BaseModel):
    """What a `Stitch` is made with, and how well it fits."""

    model_config = CHECKED
    name: Text = ""
    kind: Literal["stitch"]
    source: Grid
    target: Grid
    patch: Annotated[int, Field(ge=1, le=64)] = 1
    r2: float = 0.0


Part = Annotated[BlockPart | StitchPart, Field(discriminator="kind")]


class Stored(BaseModel):
    """recipe.json below its kind and format."""

    model_config = CHECKED
    sources: Annotated[tuple[Source, ...], Field(min_length=1, max_length=64)]
    parts: Annotated[tuple[Part, ...], Field(min_length=1, max_length=256)]
    head: Name | NewHead
    input: Input
    classes: Annotated[ClassNames, Field(min_length=2)]
    tuning: Annotated[tuple[dict[Text, Any], ...], Field(max_length=1000)]
    cost: Counted
    versions: Annotated[dict[Text, Text], Field(max_length=100)]
    checksum: Seal


def versions() -> dict[str, str]:
    """The versions of the packages that build the sources."""
    return {name: version(name) for name in ("timm", "torch", "torchvision")}


@dataclass(frozen=True)
class Reassembled:
    """The recipe of a reassembled network.

    parts: blocks {source, start, stop, nodes: their names, recalibrated: behind a stitch, what the block and a head of
        the same source went through, see `Stitching`} and stitches {source, target, what else `Stitch` takes, r2: of
        its fit}, in order.
    head: the name of the source whose own it is, or what made a new one.
    input: that of the first source.
    tuning: protocols it went through, with all settings.
    versions: of what builds the sources.
    checksum: of the weights.
    """

    kind: ClassVar[str] = "reassembled"
    file: ClassVar[str] = "recipe.json"

    sources: tuple[Source, ...]
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
        """The names of the parts: `resnet_1_3` for nodes 1 to 3 of resnet, `stitch_1`, ...

        They begin the keys of a state_dict.
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
        """The licences of all sources."""
        return tuple(sorted({source.licence for source in self.sources}))

    @property
    def blocks(self) -> tuple[Block, ...]:
        """The blocks among the parts, in order."""
        return tuple(Block(p["source"], p["start"], p["stop"]) for p in self.parts if p["kind"] == "block")

    def build(self, trust: Trust = False, room: Bounded | None = None) -> ReassembledNetwork:
        """The network with random weights, in eval mode; needs the architectures, not the zoo's weights.

        trust, room: see `Architecture.build`. Raises BrickyardError where a source cannot be built, or has other nodes
        here than it had when it lent them.
        """
        room = room or Bounded(MEMORY)
        chains = {
            one.name: Chain(one.name, one.build(trust, room), one.input.shape, declared=one.nodes)
            for one in self.sources
        }
        parts = [
            self._block(chains[part["source"]], part) if part["kind"] == "block" else self._stitch(chains, i)
            for i, part in enumerate(self.parts)
        ]
        if isinstance(self.head, str):
            head: nn.Module = duplicate(chains[self.head].head)
        else:
            _check_fit("the head", self.head.layout, _leaving(chains, self.parts[-1]))
            head = LinearHead(self.head.layout, len(self.classes))
        return ReassembledNetwork(parts, head, self).eval()

    def _block(self, chain: Chain, part: Json) -> nn.Module:
        """A copy, since two blocks may have modules of their source in common."""
        start, stop = part["start"], part["stop"]
        here = [node.name for node in chain.nodes[start:stop]]
        if here != list(part["nodes"]):
            changed = [f"{name} {self.versions.get(name)}, here {now}" for name, now in versions().items()]
            raise BrickyardError(
                f"nodes {start + 1}-{stop} of {chain.name} are {', '.join(here) or 'none'} here, but "
                f"{', '.join(part['nodes'])} in the recipe (made with {'; '.join(changed)})"
            )
        return duplicate(chain[start:stop])

    def _stitch(self, chains: Mapping[str, Chain], i: int) -> Stitch:
        """Part i, if it fits between the blocks before and behind it."""
        before, part, behind = self.parts[i - 1 : i + 2]
        stitch = Stitch(Layout(**part["source"]), Layout(**part["target"]), part.get("patch", 1))
        _check_fit(self.names[i], stitch.source, _leaving(chains, before))
        _check_fit(self.names[i], stitch.target, chains[behind["source"]].layout(behind["start"]))
        return stitch

    def to_dict(self) -> Json:
        """The recipe as JSON holds it."""
        parts = [{"name": name, **part} for name, part in zip(self.names, self.parts, strict=True)]
        return stamped(self.kind, {**asdict(self), "parts": parts})

    @classmethod
    def from_dict(cls, recipe: Any) -> "Reassembled":
        """The inverse of `to_dict`. Raises BrickyardError naming the key that is not right."""
        found = parse_kind(Stored, cls.kind, recipe)
        parts = tuple({k: v for k, v in part.items() if k != "name"} for part in recipe["parts"])
        return cls(**{**{key: getattr(found, key) for key in Stored.model_fields}, "parts": parts})._checked()

    def _checked(self) -> "Reassembled":
        """Raises BrickyardError where parts or head do not belong to the sources and classes."""
        sources = [source.name for source in self.sources]
        if len(set(sources)) != len(sources):
            raise BrickyardError("damaged: a source appears twice; dvc repro")
        blocks = [part["source"] for part in self.parts if part["kind"] == "block"]
        for name in [*blocks, *([self.head] if isinstance(self.head, str) else [])]:
            if name not in sources:
                raise BrickyardError(f"{name!r} is none of its sources: {', '.join(sources)}")
        kinds = [part["kind"] for part in self.parts]
        if kinds != ["block", *["stitch", "block"] * (len(kinds) // 2)]:
            raise BrickyardError("damaged: its parts are not blocks with one stitch between any two; dvc repro")
        assert len(self.names) == len(self.parts)
        return self


def _check_fit(name: str, layout: Layout, beside: Layout) -> None:
    if layout != beside:
        raise BrickyardError(f"damaged: {name} is made for {layout}, but beside it is {beside}; dvc repro")


def _leaving(chains: Mapping[str, Chain], block: Json) -> Layout:
    """How what leaves a block is laid out."""
    return chains[block["source"]].layout(block["stop"])
