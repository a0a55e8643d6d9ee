"""One small network of each kind, whose sources come from a file of data/models."""

from pathlib import Path

import torch
from torch import nn

from lib.chain.chain import Chain
from lib.channels.cutting import cut
from lib.network.assembled import Assembled, assemble, scale
from lib.network.component import Component
from lib.network.files import save
from lib.network.load import Recipe
from lib.network.modules import LinearHead, ReassembledNetwork, Stitch
from lib.network.parts import NewHead, Tail, line
from lib.network.reassembled import Reassembled
from lib.network.scaling import Scaling
from lib.network.source import Source
from lib.params.zoo import ZooModel
from lib.trace import cost
from lib.trace.cost import Cost
from lib.zoo.card import Card
from lib.zoo.create import create
from tests import pico

ENTRY = ZooModel.model_validate(
    {
        "factory": "data/models/plain_cnn.py:plain_cnn",
        "kwargs": {"widths": [[4], [6]]},
        "weights": "train",
        "input_size": 16,
    }
)
KINDS = ("zoo", "reassembled", "component", "assembled")
Made = tuple[nn.Module, Recipe]


def make(root: Path) -> dict[str, Made]:
    """Saves them to root/<kind>; returns what was saved, with the recipes as they were written."""
    torch.manual_seed(0)
    model, architecture, expected = create("plain", ENTRY, 3)
    pico.alive(model)
    counted = cost.count(model, expected.shape)
    card = Card("plain", architecture, expected, ("a", "b", "c"), (), "train", "MIT", counted, None)
    card = save(root / "zoo", model, card)
    reassembled = _reassembled(model, card)
    parts = {"low": _component(model, card, "low", (0, 1)), "high": _component(model, card, "high", (2,))}
    found: dict[str, Made] = {"zoo": (model, card), "reassembled": (reassembled, reassembled.recipe)}
    found |= {"component": parts["low"], "assembled": _assembled(parts)}
    return {kind: (network, save(root / kind, network, recipe)) for kind, (network, recipe) in found.items()}


def _reassembled(model: nn.Module, card: Card) -> ReassembledNetwork:
    """The first node, a stitch, the other nodes, and a new head."""
    chain = Chain("plain", model, card.input.shape)
    nodes = [node.name for node in chain.nodes]
    cuts = ((0, 1), (1, len(chain)))
    blocks = [
        {"kind": "block", "source": "plain", "start": i, "stop": j, "nodes": nodes[i:j], "recalibrated": how}
        for (i, j), how in zip(cuts, ("none", "layers"), strict=True)
    ]
    stitch = Stitch(chain.layout(1), chain.layout(1))
    layout = chain.layout(len(chain))
    head, told = LinearHead(layout, 3), NewHead(layout, "lda", 1e-3, 9, "x")
    parts = (blocks[0], {"kind": "stitch", **stitch.to_dict(), "r2": 0.5}, blocks[1])
    named = line(parts)
    tails = (Tail(named[-1]["name"], told),)
    recipe = Reassembled((Source.of(card),), named, tails, card.input, card.classes)
    return ReassembledNetwork([chain[0:1], stitch, chain[1 : len(chain)]], [head], recipe).eval()


def _component(model: nn.Module, card: Card, task: str, outputs: tuple[int, ...]) -> tuple[nn.Module, Component]:
    linear = next(name for name, module in model.named_modules() if isinstance(module, nn.Linear))
    part = cut(model, {linear: outputs}, card.input.shape)
    classes = tuple(card.classes[output] for output in outputs)
    counted = cost.count(part, card.input.shape)
    return part, Component(task, classes, Source.of(card), {linear: outputs}, counted)


def _assembled(parts: dict[str, tuple[nn.Module, Component]]) -> tuple[nn.Module, Assembled]:
    recipes = {name: recipe for name, (_, recipe) in parts.items()}
    recipe = Assembled(recipes, "parallel", Scaling((1.0, 2.0, 0.5), (0.0, 1.0, -1.0)), Cost())
    network = assemble({name: module for name, (module, _) in parts.items()}, recipes, "parallel")
    return scale(network, recipe, recipe.scaling), recipe
