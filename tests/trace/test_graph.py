"""Tracing and parts: control flow on sizes, train mode, constants, models left as they were."""

import copy
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lib.base.errors import BrickyardError
from lib.chain.chain import Chain
from lib.trace import cost, graph
from tests import pico

IMAGES = torch.rand(3, *pico.IMAGE)


class Sizes(nn.Module):
    """Reads sizes, loops over them, branches on them, makes constants and carries grid sizes past its blocks."""

    def __init__(self, num_classes: int = 4):
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 4, 4)
        self.blocks = nn.ModuleList([nn.Linear(6, 6) for _ in range(3)])
        self.register_buffer("frequency", torch.linspace(0, 1, 6), persistent=False)
        self.fc = nn.Linear(6, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        batch, channels, height, width = x.shape
        if channels != 6:
            raise ValueError("never")
        position = torch.arange(height * width).float()[:, None] * self.get_buffer("frequency")
        x = x.flatten(2).transpose(1, 2) + position
        for block in self.blocks:
            x = x + F.relu(block(x))
        if len(x.shape) == 3 and x.size(1) > 1:
            x = x.transpose(1, 2).reshape(batch, channels, height, width)
        for _ in range(int(x.shape[2]) // 2):
            x = x * 1.5
        return self.fc(x.mean((2, 3)))


class Dropping(nn.Module):
    """Functional dropout, an auxiliary output in train mode, and a module that is used twice."""

    def __init__(self, num_classes: int = 4):
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, 2, 1)
        self.shared = pico.Residual(6, 6)
        self.auxiliary = nn.Linear(6, num_classes)
        self.fc = nn.Linear(6, num_classes)

    def forward(self, x: torch.Tensor) -> Any:
        x = self.shared(self.shared(self.stem(x)))
        x = F.dropout(x, 0.5, training=self.training)
        pooled = x.mean((2, 3))
        return (self.fc(pooled), self.auxiliary(pooled)) if self.training else self.fc(pooled)


@torch.no_grad()
def test_sizes_may_steer_the_network_and_cross_a_cut() -> None:
    model = Sizes().eval()
    chain = Chain("sizes", model, pico.IMAGE)
    assert len(chain) >= 3
    for batch in (1, 2, 5):  # a part belongs to the image size, not to a batch size
        x = torch.rand(batch, *pico.IMAGE)
        for cut in range(1, len(chain)):
            assert torch.equal(chain.head(chain[cut : len(chain)](chain[0:cut](x))), model(x))


@pytest.mark.parametrize("kind", [Sizes, Dropping, pico.PicoResNet, pico.PicoViT])
def test_cutting_leaves_the_model_as_it_was(kind: Any) -> None:
    model = kind()
    before, attributes = copy.deepcopy(model.state_dict()), {name: set(vars(m)) for name, m in model.named_modules()}
    chain = Chain("model", model, pico.IMAGE)
    assert len(chain[0 : len(chain)].state_dict()) > 0
    cost.count(model, pico.IMAGE)
    assert model.training
    assert {name: set(vars(m)) for name, m in model.named_modules()} == attributes
    after = model.state_dict()
    assert all(torch.equal(tensor, after[name]) and not after[name].is_meta for name, tensor in before.items())


def test_parts_drop_out_in_train_mode_as_the_source_does() -> None:
    model = Dropping()
    chain = Chain("dropping", model, pico.IMAGE)
    part = chain[0 : len(chain)]
    torch.manual_seed(3)
    expected = model(IMAGES)[0]
    torch.manual_seed(3)
    found = chain.head(part(IMAGES))
    assert torch.equal(found, expected)
    for module in (part, chain.head, model):
        module.eval()
    assert torch.equal(chain.head(part(IMAGES)), model(IMAGES))
    assert not torch.equal(expected, model(IMAGES))


def test_gradients_are_the_sources_own() -> None:
    model = pico.PicoViT()
    chain = Chain("vit", model, pico.IMAGE)
    gradients = []
    for forward in (model, lambda x: chain.head(chain[1:3](chain[0:1](x)))):
        model.zero_grad()
        forward(IMAGES).square().mean().backward()
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_what_several_nodes_use_is_counted_once_and_what_none_uses_is_told() -> None:
    model = Dropping().eval()
    chain = Chain("dropping", model, pico.IMAGE)
    total = chain.cost(0, len(chain)) + chain.head_cost
    assert chain.unused == cost.params(model.auxiliary)
    assert total.params + chain.unused == cost.params(model)
    assert total.macs == cost.count(model, pico.IMAGE).macs


def test_a_copied_part_stands_alone() -> None:
    model = pico.alive(pico.PicoResNet())
    chain = Chain("resnet", model, pico.IMAGE)
    part = copy.deepcopy(chain[0:2])
    with torch.no_grad():
        expected = part(IMAGES)
        for parameter in model.parameters():
            parameter.zero_()
        assert torch.equal(part(IMAGES), expected)


def test_fine_cuts_are_every_legal_one() -> None:
    model = pico.alive(pico.plain())
    fine, block = Chain("plain", model, pico.IMAGE, granularity="fine"), Chain("plain", model, pico.IMAGE)
    assert len(fine) == 10  # three times conv, BN, ReLU, and one pooling
    assert len(block) == 3
    fine.verify(IMAGES)


def test_declared_nodes_are_the_nodes() -> None:
    model = pico.alive(pico.PicoResNet())
    chain = Chain("resnet", model, pico.IMAGE, declared=["stages.0", "stages.1"])
    assert [node.name for node in chain.nodes] == ["stages.0", "stages.1"]
    chain.verify(IMAGES)
    with pytest.raises(BrickyardError, match=r"nodes: the network has no module 'stages\.7'"):
        Chain("resnet", model, pico.IMAGE, declared=["stages.7"])


def test_pixels_that_steer_inside_a_node_do_no_harm() -> None:
    class Choosy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.conv(x) if x.sum() > 0 else -x

    layers = [Choosy(), Choosy(), Choosy(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 4)]
    model = nn.Sequential(nn.Sequential(*layers[:3]), *layers[3:]).eval()
    chain = Chain("choosy", model, pico.IMAGE)
    assert [node.name for node in chain.nodes] == ["0.0", "0.1", "0.2"]
    chain.verify(IMAGES)
    chain.verify(-IMAGES)
    assert cost.count(Choosy(), pico.IMAGE).macs == 9 * pico.IMAGE[1] * pico.IMAGE[2]
    with pytest.raises(BrickyardError, match=r"choosy: cannot .* in module 0\.1"):  # 0.1 and 0.2 would be looked into
        Chain("choosy", model, pico.IMAGE, declared=["0.0"])


class Carrying(nn.Module):
    """Blocks take and return a list; every second one leaves nothing beside its output."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(6, 6, 3, padding=1)

        def forward(self, given: torch.Tensor | list[torch.Tensor | None]) -> list[torch.Tensor | None]:
            given = given if isinstance(given, list) else [given, None]
            x, beside = given
            assert x is not None
            y = F.relu(self.conv(x if beside is None else x + beside))
            return [y + x, x if beside is None else None]

    def __init__(self, num_classes: int = 4):
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 4, 4)
        self.blocks = nn.Sequential(*(self.Block() for _ in range(4)))
        self.fc = nn.Linear(6, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.blocks(self.stem(x))[0].mean((2, 3)))


@torch.no_grad()
def test_units_may_return_lists_with_none_inside() -> None:
    model = pico.alive(Carrying())
    chain = Chain("carrying", model, pico.IMAGE)
    assert [node.name for node in chain.nodes] == ["blocks.1", "blocks.3"]
    for cut in range(1, len(chain)):
        assert torch.equal(chain.head(chain[cut : len(chain)](chain[0:cut](IMAGES))), model(IMAGES))


class Statistics(nn.Module):
    """Normalises by statistics of its own, as modules do, and reads them afterwards."""

    def __init__(self, num_classes: int = 4):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 3, 2, 1), nn.BatchNorm2d(6), nn.Conv2d(6, 6, 1))
        self.register_buffer("mean", torch.zeros(6))
        self.register_buffer("variance", torch.ones(6))
        self.fc = nn.Linear(6, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean, variance = self.get_buffer("mean"), self.get_buffer("variance")
        x = F.batch_norm(self.stem(x), mean, variance, training=self.training)
        return self.fc(x.mean((2, 3)) + mean / variance.sqrt())


@pytest.mark.parametrize("train", [True, False])
def test_statistics_are_written_in_train_mode_alone(train: bool) -> None:
    """And what reads them then follows what writes them."""
    model = Statistics()
    found = graph.trace(model, "statistics", pico.IMAGE, train=train)
    (writing,) = (node for node in found.graph.nodes if "batch_norm" in node.name)
    changed = {node.target for node in found.changes.get(writing, ())}
    assert changed == ({"mean", "variance"} if train else set())
    assert found.tensor(writing).shape == (2, 6, 8, 8)
    assert sum(found.macs.values()) == 6 * 64 * (27 + 6) + 24
    assert not model.get_buffer("mean").any()
