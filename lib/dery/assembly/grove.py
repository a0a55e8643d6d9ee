"""Many networks made of the same blocks, asked at once: what begins alike is computed once. Ours."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from math import prod

import torch
from jaxtyping import Float
from torch import nn

from ...base.abreast import abreast, width
from ...base.artifacts import tensor_checksum
from ...base.progress import track
from ...images.data import Loader
from ...network.blocks import Block
from ...network.parts import block_of
from ...trace.duplicate import duplicate
from ...trace.logits import logits
from ...zoo.card import Input
from .material import Bricks
from .reassembly import Made


@dataclass
class Node:
    """A part, what comes behind it, and the heads of the networks that end with it, by name."""

    part: nn.Module
    children: dict[str, "Node"] = field(default_factory=dict)
    heads: dict[str, nn.Module] = field(default_factory=dict)

    def answers(self, x: Float[torch.Tensor, "b ..."]) -> Iterator[tuple[str, Float[torch.Tensor, "b classes"]]]:
        """The logits of each network, by name; depth first, so that few activations are alive."""
        x = self.part(x)
        for name, head in self.heads.items():
            yield name, logits(head(x))
        for child in self.children.values():
            yield from child.answers(x)


@dataclass(frozen=True)
class Grove:
    """Networks by the images that enter them, as tries of their parts."""

    roots: Mapping[Input, Mapping[str, Node]]

    @classmethod
    def of(
        cls, bricks: Bricks, chains: Mapping[str, Made], quicker: Callable[[nn.Module], nn.Module] | None = None
    ) -> "Grove":
        """Of chains by name. Runs of blocks are split at the cuts; equal parts behind equal parts, by their weights,
        are one node. quicker: gives what is asked in place of a part, the same function.
        """
        roots: dict[Input, dict[str, Node]] = {}
        for name, made in chains.items():
            network, recipe = made
            nodes, node = roots.setdefault(recipe.input, {}), None
            for key, part in _pieces(bricks, made):
                if key not in nodes:
                    nodes[key] = Node(part if quicker is None else quicker(part))
                node = nodes[key]
                nodes = node.children
            assert node is not None
            node.heads[name] = network.heads[0]
        return cls(roots)

    @torch.no_grad()
    def ask(self, expected: Input, x: Float[torch.Tensor, "b 3 h w"]) -> dict[str, Float[torch.Tensor, "b classes"]]:
        """The logits of all networks that expect such images, by name."""
        return {name: said.cpu().clone() for node in self.roots[expected].values() for name, said in node.answers(x)}

    def answers(self, images: Callable[[Input], Loader]) -> dict[str, Float[torch.Tensor, "n classes"]]:
        """The logits of every network on some images, given as each expects them, by name.

        Of small images as many batches at a time as there are CPU threads.
        """
        found = dict[str, list[torch.Tensor]]()
        for expected in self.roots:
            loader = images(expected)
            count = width(torch.device(loader.images.device), 4 * prod(expected.shape) * loader.batch_size)
            asked = abreast(partial(self.ask, expected), (x for x, _ in loader), count)
            for answered in track(asked, "batches", len(loader)):
                for name, said in answered.items():
                    found.setdefault(name, []).append(said)
        return {name: torch.cat(parts) for name, parts in found.items()}


def _pieces(bricks: Bricks, made: Made) -> Iterator[tuple[str, nn.Module]]:
    """A network's parts with a hash of each, runs of blocks split at the cuts."""
    network, recipe = made
    for part, told in zip(network.parts, recipe.parts, strict=True):
        pieces: list[tuple[str, nn.Module]] = []
        if told["kind"] == "stitch":
            pieces = [(json.dumps([told["source"], told["target"], told["patch"]], sort_keys=True), part)]
        else:
            block = block_of(told)
            inside = [cut for cut in bricks.cuts[bricks.place(block.network)] if block.start < cut < block.stop]
            own = [replace(block, start=i, stop=j) for i, j in pairwise([block.start, *inside, block.stop])]
            pieces = [(str(one), part if one == block else _piece(bricks, one, part)) for one in own]
        for title, piece in pieces:
            yield title + tensor_checksum(piece.state_dict()), piece


def _piece(bricks: Bricks, block: Block, whole: nn.Module) -> nn.Module:
    piece, state = duplicate(bricks.chain(block)[block.start : block.stop]), whole.state_dict()
    piece.load_state_dict({name: state[name] for name in piece.state_dict()})
    return piece.eval()
