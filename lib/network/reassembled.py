"""The recipe of a reassembled network: blocks, stitches and heads (DeRy), a chain or a tree of them, in JSON: enough to
build it again, to credit and to repeat it.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from importlib.metadata import version
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, Field
from torch import nn

from ..base.errors import BrickyardError
from ..base.stored import CHECKED, ClassNames, Seal, Text, parse_kind, stamped
from ..chain.chain import Chain
from ..chain.layout import Layout
from ..channels.cutting import cut
from ..trace.cost import Cost, Counted
from ..trace.duplicate import duplicate
from ..zoo.architecture import MEMORY, Bounded, Trust
from ..zoo.card import Input
from .blocks import Block, Pick
from .modules import LinearHead, ReassembledNetwork, Stitch, make_stitch
from .parts import Json, Part, Tail, block_of, may_follow
from .source import Source


@dataclass(frozen=True)
class Step:
    """A part as it is run. after: what it reads, None for the images; last: whether nobody reads that after it; heads:
    that read this part, by name; read: whether parts do.
    """

    name: str
    after: str | None
    last: bool
    heads: tuple[str, ...]
    read: bool


class Stored(BaseModel):
    """recipe.json below its kind and format."""

    model_config = CHECKED
    sources: Annotated[tuple[Source, ...], Field(min_length=1, max_length=64)]
    parts: Annotated[tuple[Part, ...], Field(min_length=1, max_length=256)]
    tails: Annotated[tuple[Tail, ...], Field(min_length=1, max_length=64)]
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

    parts: blocks {name, after: the part that it reads, None for the images, source, start, stop, nodes: their names,
        recalibrated: behind a stitch, what the block and a head of the same source went through, see `Assembly`; of
        narrow ones width and kept, see `BlockPart`} and stitches {name, after, what `make_stitch` takes, r2: of a
        linear map's fit}; none before what it reads.
    tails: where the network ends, and by what weights their logits are added up.
    input: that of the root which sees most.
    tuning: protocols it went through, with all settings.
    versions: of what builds the sources.
    checksum: of the weights.
    """

    kind: ClassVar[str] = "reassembled"
    file: ClassVar[str] = "recipe.json"

    sources: tuple[Source, ...]
    parts: tuple[Json, ...]
    tails: tuple[Tail, ...]
    input: Input
    classes: tuple[str, ...]
    tuning: tuple[Json, ...] = ()
    cost: Cost = field(default_factory=Cost)
    versions: dict[str, str] = field(default_factory=lambda: versions())
    checksum: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the parts. They begin the keys of a state_dict."""
        return tuple(part["name"] for part in self.parts)

    @property
    def head_names(self) -> tuple[str, ...]:
        """The names of the tails' heads: `head`, or `head_1`, `head_2`, ..."""
        several = len(self.tails) > 1
        return tuple(f"head_{i}" if several else "head" for i in range(1, len(self.tails) + 1))

    @property
    def inputs(self) -> dict[str, Input]:
        """What the parts that read the images expect, by name."""
        sources = {source.name: source.input for source in self.sources}
        return {part["name"]: sources[part["source"]] for part in self.parts if part["after"] is None}

    @cached_property
    def steps(self) -> tuple[Step, ...]:
        """The parts in the order in which they are run."""
        readers = {part["after"]: part["name"] for part in self.parts}  # the last one of each
        heads: dict[str, list[str]] = {}
        for name, tail in zip(self.head_names, self.tails, strict=True):
            heads.setdefault(tail.after, []).append(name)
        return tuple(
            Step(name, after, readers[after] == name, tuple(heads.get(name, ())), name in readers)
            for name, after in ((part["name"], part["after"]) for part in self.parts)
        )

    @property
    def licences(self) -> tuple[str, ...]:
        """The licences of all sources."""
        return tuple(sorted({source.licence for source in self.sources}))

    @property
    def blocks(self) -> tuple[Block, ...]:
        """The blocks among the parts, in order."""
        return tuple(block_of(part) for part in self.parts if part["kind"] == "block")

    @property
    def words(self) -> str:
        """The runs of blocks that lead to each tail, for people."""
        parts, ways = {part["name"]: part for part in self.parts}, []
        for tail in self.tails:
            way, name = list[Block](), tail.after
            while name is not None:
                part = parts[name]
                if part["kind"] == "block":
                    way.insert(0, block_of(part))
                name = part["after"]
            ways.append(" > ".join(map(str, Pick(tuple(way)).runs())))
        return " + ".join(ways)

    def build(self, trust: Trust = False, room: Bounded | None = None) -> ReassembledNetwork:
        """The network with random weights, in eval mode; needs the architectures, not the zoo's weights.

        trust, room: see `Architecture.build`. Raises BrickyardError where a source cannot be built, or has other nodes
        here than it had when it lent them.
        """
        room = room or Bounded(MEMORY)
        models = {one.name: one.build(trust, room) for one in self.sources}
        given = {one.name: one for one in self.sources}
        chains = {name: _chain(given[name], model) for name, model in models.items()}
        narrow: dict[str, Chain] = {}

        def chain(part: Json) -> Chain:
            kept, name = part.get("kept"), part["source"]
            if not kept:
                return chains[name]
            key = json.dumps([name, kept], sort_keys=True)
            if key not in narrow:
                narrow[key] = _chain(given[name], cut(models[name], kept, given[name].input.shape))
            return narrow[key]

        parts = [
            self._block(chain(part), part) if part["kind"] == "block" else self._stitch(chains, part)
            for part in self.parts
        ]
        heads = [self._head(chains, tail) for tail in self.tails]
        return ReassembledNetwork(parts, heads, self).eval()

    def _head(self, chains: Mapping[str, Chain], tail: Tail) -> nn.Module:
        if isinstance(tail.head, str):
            return duplicate(chains[tail.head].head)
        _check_fit("a head", tail.head.layout, _leaving(chains, self._part(tail.after)))
        return LinearHead(tail.head.layout, len(self.classes))

    def _part(self, name: str) -> Json:
        return next(part for part in self.parts if part["name"] == name)

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

    def _stitch(self, chains: Mapping[str, Chain], part: Json) -> Stitch:
        """A stitch, if it fits between the block before and those behind it."""
        source, target = Layout(**part["source"]), Layout(**part["target"])
        stitch = make_stitch(source, target, part.get("patch", 1), part.get("form", "linear"))
        _check_fit(part["name"], stitch.source, _leaving(chains, self._part(part["after"])))
        for behind in (one for one in self.parts if one["after"] == part["name"]):
            _check_fit(part["name"], stitch.target, chains[behind["source"]].layout(behind["start"]))
        return stitch

    def to_dict(self) -> Json:
        """The recipe as JSON holds it."""
        return stamped(self.kind, asdict(self))

    @classmethod
    def from_dict(cls, recipe: Any) -> "Reassembled":
        """The inverse of `to_dict`. Raises BrickyardError naming the key that is not right."""
        found = parse_kind(Stored, cls.kind, recipe)
        parts = tuple(dict(part) for part in recipe["parts"])
        return cls(**{**{key: getattr(found, key) for key in Stored.model_fields}, "parts": parts})._checked()

    def _checked(self) -> "Reassembled":
        """Raises BrickyardError where parts or heads do not belong to the sources, or are no tree."""
        sources = [source.name for source in self.sources]
        if len(set(sources)) != len(sources):
            raise BrickyardError("damaged: a source appears twice; dvc repro")
        lenders = [part["source"] for part in self.parts if part["kind"] == "block"]
        for name in [*lenders, *(tail.head for tail in self.tails if isinstance(tail.head, str))]:
            if name not in sources:
                raise BrickyardError(f"{name!r} is none of its sources: {', '.join(sources)}")
        met: dict[str, Json] = {}
        for part in self.parts:
            before = None if part["after"] is None else met.get(part["after"])
            if part["name"] in {*met, *self.head_names} or not may_follow(part, before):
                raise BrickyardError(
                    f"damaged: {part['name']} does not follow {part['after'] or 'the images'}: parts are blocks with a "
                    "stitch where the source changes, each behind what it reads; dvc repro"
                )
            met[part["name"]] = part
        read = {part["after"] for part in self.parts} | {tail.after for tail in self.tails}
        for tail in self.tails:
            if tail.after not in met or met[tail.after]["kind"] != "block":
                raise BrickyardError(f"damaged: a head reads {tail.after}, which is no block; dvc repro")
        if unread := [name for name in met if name not in read]:
            raise BrickyardError(f"damaged: nothing reads {unread[0]}; dvc repro")
        if self.input not in self.inputs.values():
            raise BrickyardError("damaged: input is what none of its first blocks expects; dvc repro")
        if abs(sum(tail.weight for tail in self.tails) - 1) > 1e-6:
            raise BrickyardError("damaged: the weights of its tails do not add up to 1; dvc repro")
        return self


def _chain(source: Source, model: nn.Module) -> Chain:
    return Chain(source.name, model, source.input.shape, declared=source.nodes)


def _check_fit(name: str, layout: Layout, beside: Layout) -> None:
    if layout != beside:
        raise BrickyardError(f"damaged: {name} is made for {layout}, but beside it is {beside}; dvc repro")


def _leaving(chains: Mapping[str, Chain], block: Json) -> Layout:
    """How what leaves a block is laid out."""
    return chains[block["source"]].layout(block["stop"])
