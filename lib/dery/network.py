"""Reassembled networks: blocks and stitches in a row, with a recipe from which they can be built again."""

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lib import artifacts
from lib.chain import Chain
from lib.checkpoint import assign
from lib.cost import Cost, count
from lib.dery.heads import LinearHead
from lib.dery.stitching import Stitch
from lib.errors import BrickyardError
from lib.layout import Layout
from lib.zoo import Architecture, Card, Input, input_from_dict


@dataclass(frozen=True)
class Source:
    """A zoo network that lent blocks: enough to build its architecture again, and where the weights came from."""

    architecture: Architecture
    input: Input
    nodes: tuple[str, ...]
    weights: str
    licence: str

    @classmethod
    def of(cls, card: Card) -> "Source":
        """What a recipe needs of a zoo card."""
        return cls(card.architecture, card.input, card.nodes, card.weights, card.licence)

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> "Source":
        """A source from its JSON form."""
        parts = {"architecture": Architecture(**stored["architecture"]), "input": input_from_dict(stored["input"])}
        return cls(**{**stored, **parts, "nodes": tuple(stored["nodes"])})

    def chain(self, name: str) -> Chain:
        """The source's chain with random weights."""
        return Chain(name, self.architecture.build(), self.input.shape, declared=self.nodes)


@dataclass(frozen=True)
class Recipe:
    """parts: blocks {source, start, stop} and stitches {source_layout, target_layout}, in order; head: the name of
    the source whose head is used, or the layout that a linear head pools; input: that of the first source;
    tuning: the protocols it went through.
    """

    sources: dict[str, Source]
    parts: tuple[dict[str, Any], ...]
    head: str | dict[str, Any]
    input: Input
    classes: tuple[str, ...]
    tuning: tuple[str, ...] = ()
    cost: Cost = field(default_factory=Cost)
    checksum: str = ""

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> "Recipe":
        """A recipe from its JSON form."""
        sources = {name: Source.from_dict(source) for name, source in stored["sources"].items()}
        return cls(
            sources,
            tuple(stored["parts"]),
            stored["head"],
            input_from_dict(stored["input"]),
            tuple(stored["classes"]),
            tuple(stored["tuning"]),
            Cost(**stored["cost"]),
            stored["checksum"],
        )

    def blocks(self) -> list[str]:
        """The blocks in words: `resnet 0:3`, nodes 1 to 3."""
        return [f"{p['source']} {p['start']}:{p['stop']}" for p in self.parts if p["kind"] == "block"]


class ReassembledNetwork(nn.Module):
    """`parts` one after another, then `head`: images [b, 3, h, w] -> logits [b, classes]."""

    def __init__(self, parts: list[nn.Module], head: nn.Module):
        super().__init__()
        self.parts = nn.ModuleList(parts)
        self.head = head

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """What enters the head."""
        for part in self.parts:
            x = part(x)
        return x

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images [b, 3, h, w] -> logits [b, classes]."""
        return self.head(self.features(x))

    def new_parameters(self) -> list[nn.Parameter]:
        """Those of stitches and head, which learn in the frozen protocol."""
        new = [part for part in self.parts if isinstance(part, Stitch)]
        return [parameter for module in (*new, self.head) for parameter in module.parameters()]


def build(recipe: Recipe) -> ReassembledNetwork:
    """The recipe's network with random weights, in eval mode; needs the architectures, not the zoo's weights."""
    chains = {name: source.chain(name) for name, source in recipe.sources.items()}
    parts: list[nn.Module] = []
    for part in recipe.parts:
        if part["kind"] == "block":
            parts.append(chains[part["source"]][part["start"] : part["stop"]])
        else:
            parts.append(Stitch(Layout(**part["source"]), Layout(**part["target"])))
    if isinstance(recipe.head, str):
        head = chains[recipe.head].head
    else:
        head = LinearHead(Layout(**recipe.head), len(recipe.classes))
    return ReassembledNetwork(parts, head).eval()


def save(folder: Path, network: ReassembledNetwork, recipe: Recipe) -> Recipe:
    """Writes model.safetensors and recipe.json; returns the recipe with cost and checksum filled in."""
    counted = count(network, recipe.input.shape)
    checksum = artifacts.write_tensors(folder / "model.safetensors", network.state_dict())
    recipe = replace(recipe, cost=counted, checksum=checksum)
    artifacts.write_json(folder / "recipe.json", {"kind": "reassembled", **asdict(recipe)})
    return recipe


def load(folder: Path) -> tuple[ReassembledNetwork, Recipe]:
    """What `save` left, in eval mode. Raises BrickyardError when recipe and weights do not belong together."""
    recipe = Recipe.from_dict(artifacts.read_json(folder / "recipe.json"))
    tensors = artifacts.read_tensors(folder / "model.safetensors")
    if artifacts.tensor_checksum(tensors) != recipe.checksum:
        raise BrickyardError(f"{folder}: model.safetensors is not the file that recipe.json describes")
    network = build(recipe)
    assign(network, tensors)
    return network, recipe
