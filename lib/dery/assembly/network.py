"""Reassembled networks: blocks and stitches in a row, on disk as recipe.json and model.safetensors."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...base import artifacts
from ...base.errors import BrickyardError
from ...chain.chain import Chain
from ...chain.layout import Layout
from ...trace.cost import count
from ...trace.duplicate import duplicate
from ...zoo.architecture import MEMORY, Bounded, Trust, trusted
from ...zoo.weights import check_params, fill, logits_of, named, read_weights
from .heads import LinearHead
from .recipe import Recipe, versions
from .stitching import Stitch


class ReassembledNetwork(nn.Module):
    """`parts` one after another, then `head`: images [b, 3, h, w] -> logits [b, classes].

    `recipe` tells what they are; keys of the state_dict begin with its names: `resnet_1_2.layer1.0.conv1.weight`,
    `stitch_1.channels.weight`, `head.weight`.
    """

    def __init__(self, parts: Iterable[nn.Module], head: nn.Module, recipe: Recipe):
        super().__init__()
        self.recipe = recipe
        for name, part in zip(recipe.names, parts, strict=True):
            self.add_module(name, part)
        self.head = head

    @property
    def parts(self) -> list[nn.Module]:
        """Blocks and stitches, in order."""
        return [getattr(self, name) for name in self.recipe.names]

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


def build(recipe: Recipe, trust: Trust = False) -> ReassembledNetwork:
    """The recipe's network with random weights, in eval mode; needs the architectures, not the zoo's weights.

    trust: as for `load`. Raises BrickyardError where a source cannot be built, or has other nodes here than it had when
    it lent them.
    """
    room = Bounded(MEMORY)
    allowed = {name: trusted(trust, name, source.architecture) for name, source in recipe.sources.items()}
    chains = {name: source.chain(name, allowed[name], room) for name, source in recipe.sources.items()}
    parts: list[nn.Module] = []
    for part in recipe.parts:
        if part["kind"] == "block":
            parts.append(_block(chains[part["source"]], part, recipe))
        else:
            made_with = {key: value for key, value in part.items() if key not in ("kind", "source", "target", "r2")}
            parts.append(Stitch(Layout(**part["source"]), Layout(**part["target"]), **made_with))
    if isinstance(recipe.head, str):
        head: nn.Module = duplicate(chains[recipe.head].head)
    else:
        head = LinearHead(recipe.head.layout, len(recipe.classes))
    return ReassembledNetwork(parts, head, recipe).eval()


def _block(chain: Chain, part: dict[str, Any], recipe: Recipe) -> nn.Module:
    """A copy, since two blocks may have modules of their source in common."""
    start, stop = part["start"], part["stop"]
    here = [node.name for node in chain.nodes[start:stop]]
    if here != list(part["nodes"]):
        changed = [f"{name} {recipe.versions.get(name)}, here {now}" for name, now in versions().items()]
        raise BrickyardError(
            f"nodes {start + 1}-{stop} of {chain.name} are {', '.join(here) or 'none'} here, but "
            f"{', '.join(part['nodes'])} in the recipe (made with {'; '.join(changed)})"
        )
    return duplicate(chain[start:stop])


def _checked(network: ReassembledNetwork) -> ReassembledNetwork:
    """Raises BrickyardError unless the network gives one logit a class; nothing is computed."""
    outputs = logits_of(network, network.recipe.input.shape)
    if outputs not in (None, len(network.recipe.classes)):
        raise BrickyardError(f"the head has {outputs} outputs for {len(network.recipe.classes)} classes; dvc repro")
    return network


def save(folder: Path, network: ReassembledNetwork, recipe: Recipe) -> Recipe:
    """Writes model.safetensors and recipe.json; returns the recipe with cost and checksum filled in."""
    counted = count(network, recipe.input.shape)
    checksum = artifacts.write_tensors(folder / "model.safetensors", network.state_dict())
    recipe = replace(recipe, cost=counted, checksum=checksum)
    artifacts.write_json(folder / "recipe.json", recipe.to_dict())
    return recipe


def load(folder: str | Path, trust: Trust = False) -> ReassembledNetwork:
    """The network that `save` left in `folder`, wherever that has been moved, in eval mode, ready to be trained.

    Needs no zoo and runs no code from the folder: its sources are built by timm, by torchvision, or by a file below
    data/models that is what it was when they were made; trust: True for whatever the recipe names, or entries of
    params.yaml, whose factories may run for the sources of these names. Its `recipe` says what it is, what it expects
    and what it answers. Raises BrickyardError naming the file that is missing or damaged, or does not belong to the
    other, before anything is run.
    """
    folder = Path(folder)
    if (folder / "card.json").is_file() and not (folder / "recipe.json").is_file():
        raise BrickyardError(
            f"{folder} holds a network of the zoo, not a reassembled one: lib.zoo.networks.load opens it"
        )
    stored = artifacts.read_json(folder / "recipe.json")
    try:
        recipe = Recipe.from_dict(stored)
        tensors = read_weights(folder / "model.safetensors", recipe.checksum)
        network = build(recipe, trust)
        fill(network, tensors, folder / "model.safetensors")
        check_params(network, recipe.cost)
        return _checked(network)
    except BrickyardError as error:
        raise named(folder / "recipe.json", error) from None
    except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:  # parts that do not fit
        raise BrickyardError(f"{folder / 'recipe.json'}: damaged: {error}; dvc repro") from None
