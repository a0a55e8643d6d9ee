"""Chains: exactness, the nodes that are found, costs that add up, layouts."""

import itertools
from collections import OrderedDict

import pytest
import torch
from torch import nn

from lib.base.errors import BrickyardError
from lib.chain.chain import Chain
from lib.chain.layout import Layout
from lib.trace import cost
from tests import pico

IMAGES = torch.rand(3, *pico.IMAGE)
NODES = {
    "resnet": (pico.PicoResNet, ["stages.0.0", "stages.0.1", "stages.1.0", "stages.1.1"]),
    "inception": (pico.PicoInception, ["blocks.0", "blocks.1", "blocks.2"]),
    "vit": (pico.PicoViT, ["blocks.0", "blocks.1", "blocks.2"]),
    "plain": (pico.plain, ["0", "3", "7"]),
}


def chain_of(name: str) -> tuple[nn.Module, Chain]:
    model = pico.alive(NODES[name][0]())
    return model, Chain(name, model, pico.IMAGE)


@pytest.mark.parametrize("name", NODES)
@torch.no_grad()
def test_nodes_one_after_another_are_the_model_bit_for_bit(name: str) -> None:
    model, chain = chain_of(name)
    assert [node.name for node in chain.nodes] == NODES[name][1]
    *_, last = chain.walk(IMAGES)
    assert torch.equal(chain.head(last), model(IMAGES))
    for cut in range(1, len(chain)):
        assert torch.equal(chain.head(chain[cut : len(chain)](chain[0:cut](IMAGES))), model(IMAGES))


@pytest.mark.parametrize("name", NODES)
def test_costs_of_nodes_and_head_add_up_to_the_model(name: str) -> None:
    model, chain = chain_of(name)
    total, whole = chain.cost(0, len(chain)) + chain.head_cost, cost.count(model, pico.IMAGE)
    assert (total.params, total.macs) == (whole.params, whole.macs)
    assert 0 < total.memory <= whole.memory  # a network holds more of its intermediate values than a chain


class _Tied(nn.Module):
    """Two convolutions with one weight, a third that uses it as a function, a classifier of the same numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, 2, 1)
        self.one, self.two, self.three = nn.Conv2d(6, 6, 1), nn.Conv2d(6, 6, 1), nn.Conv2d(6, 6, 1)
        self.fc = nn.Linear(6, 6)
        self.three._parameters["weight"] = self.one._parameters["weight"]
        self.fc._parameters["bias"] = self.one._parameters["bias"]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.two(self.one(self.stem(x)).relu()).relu()
        x = nn.functional.conv2d(self.three(x).relu(), self.two.weight).relu()
        return self.fc(x.mean((2, 3)))


def _repeated(order: list[int]) -> nn.Module:
    """Residual blocks, of which some are the same one."""
    blocks = [pico.Residual(6, 6) for _ in range(max(order) + 1)]
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, 2, 1), nn.Sequential(*(blocks[i] for i in order)), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(6, 4),
    )  # fmt: skip


SHARING = {
    "in turn": lambda: _repeated([0, 1, 0, 1]),
    "in turn, for long": lambda: _repeated([0, 1, 0, 1, 0, 1]),
    "far apart": lambda: _repeated([0, 1, 2, 0]),
    "weights, not modules": _Tied,
    "nothing": lambda: _repeated([0, 1, 2]),
}


@pytest.mark.parametrize("name", SHARING)
def test_a_span_costs_what_its_part_costs_whatever_nodes_have_in_common(name: str) -> None:
    model = pico.alive(SHARING[name]())
    chain = Chain(name, model, pico.IMAGE)
    for i, j in itertools.combinations(range(len(chain) + 1), 2):
        assert chain.cost(i, j) == cost.count(chain[i:j], chain.layout(i).shape), (i, j)
    whole = cost.count(model, pico.IMAGE)
    assert (chain.total.params, chain.total.macs, chain.unused) == (whole.params, whole.macs, 0)
    assert chain.head_cost.params == cost.params(chain.head)
    parts = sum((node.cost for node in chain.nodes), chain.head_cost)
    assert (parts.params > whole.params) == (name != "nothing")
    records = chain.to_dict()["nodes"]
    assert all(("since" in record) == (name != "nothing") for record in records)
    for j, record in enumerate(records) if name != "nothing" else ():
        costs = [chain.cost(i, j + 1) for i in range(j + 1)]
        assert record["since"] == {"params": [c.params for c in costs], "macs": [c.macs for c in costs]}
    assert parts.macs == whole.macs


def test_activation_memory_is_what_is_alive_at_once() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 1), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(4, 2),
    )  # fmt: skip
    first, second = Chain("plain", model, (3, 10, 10)).nodes
    assert first.cost.memory == 4 * 100 * (3 + 8 + 8)  # the image, the convolution's output and its ReLU
    assert second.cost.memory == 4 * 100 * (8 + 4)  # in place
    chain = Chain("plain", model, (3, 10, 10))
    assert chain.cost(0, 2).memory == cost.count(model, (3, 10, 10)).memory == 4 * 100 * (3 + 8 + 8)
    for i, j in ((0, 1), (1, 2), (0, 2)):
        assert chain.cost(i, j).memory == cost.count(chain[i:j], chain.layout(i).shape).memory


def test_a_stage_of_one_block_is_a_node_of_its_own() -> None:
    class Stage(nn.Module):
        def __init__(self, depth: int):
            super().__init__()
            for i in range(depth):
                self.add_module(f"b{i}", pico.Residual(8, 8))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for child in self.children():
                x = child(x)
            return x

    layers = {"stem": nn.Conv2d(3, 8, 1), "s1": Stage(1), "s2": Stage(2), "pool": nn.AdaptiveAvgPool2d(1)}
    model = nn.Sequential(OrderedDict([*layers.items(), ("flat", nn.Flatten()), ("fc", nn.Linear(8, 2))]))
    assert [node.name for node in Chain("stages", model, pico.IMAGE).nodes] == ["s1.b0", "s2.b0", "s2.b1"]


@pytest.mark.parametrize("name", NODES)
@torch.no_grad()
def test_layouts_describe_what_crosses_each_boundary(name: str) -> None:
    _, chain = chain_of(name)
    for node, x in zip(chain.nodes, chain.walk(IMAGES), strict=True):
        assert tuple(x.shape[1:]) == node.output.shape


def test_a_vit_has_a_prefix_token_on_a_square_grid() -> None:
    _, chain = chain_of("vit")
    assert chain.nodes[0].output == Layout("tokens", 8, 4, 4, prefix=1)


@torch.no_grad()
def test_no_cut_where_two_tensors_are_alive() -> None:
    model = pico.TwoStreams().eval()
    chain = Chain("two", model, pico.IMAGE)
    assert len(chain) == 2  # the first convolution, and everything until the streams meet again
    assert chain.nodes[1].cost.params == cost.params(model.left) + cost.params(model.right)
    *_, last = chain.walk(IMAGES)
    assert torch.equal(chain.head(last), model(IMAGES))


def test_blocks_keep_the_sources_parameters_and_names() -> None:
    model, chain = chain_of("resnet")
    block = chain[1:3]
    own = dict(model.named_parameters())
    names = dict(block.named_parameters())
    assert set(names) == {name for name in own if name.startswith(("stages.0.1.", "stages.1.0."))}
    assert all(own[name] is parameter for name, parameter in names.items())


def test_in_place_activations_do_not_change_what_was_taken() -> None:
    _, chain = chain_of("plain")
    with torch.no_grad():
        taken = [x.clone() for x in chain.walk(IMAGES)]
        again = [chain[0 : i + 1](IMAGES) for i in range(len(chain))]
    assert all(torch.equal(a, b) for a, b in zip(taken, again, strict=True))


def test_data_dependent_control_flow_is_one_line() -> None:
    class Choosy(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(BrickyardError, match=r"^choosy: cannot be traced") as caught:
        Chain("choosy", Choosy(), pico.IMAGE)
    assert "\n" not in str(caught.value)


def test_two_inputs_are_refused() -> None:
    class Two(nn.Module):
        def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return x + y

    with pytest.raises(BrickyardError, match="takes 2 inputs"):
        Chain("two", Two(), pico.IMAGE)
