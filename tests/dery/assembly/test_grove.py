"""Networks that are asked together answer what they answer one by one, bit for bit, on any number of threads."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lib.chain.chain import Chain
from lib.dery.assembly.grove import Grove
from lib.dery.assembly.material import Bricks
from lib.dery.assembly.reassembly import Made
from lib.dery.assembly.workshop import Workshop
from lib.images.data import DataSet, Loader
from lib.zoo.card import Input
from tests import pico


class Viewing(nn.Module):
    """A convolution and a view of what leaves it, which refuses any order of strides but its own."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(inputs, outputs, 3, stride, 1), nn.BatchNorm2d(outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.bn(self.conv(x)))
        return x - x.view(x.size(0), -1).mean(1)[:, None, None, None]


def viewing() -> nn.Sequential:
    """A network of three such."""
    blocks = (Viewing(3, 6, 2), Viewing(6, 8, 1), Viewing(8, 8, 2))
    return nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))


@pytest.fixture(scope="module")
def zoo(bricks: Bricks) -> Bricks:
    """A network with views, one with LayerNorm, one with BatchNorm and shortcuts."""
    torch.manual_seed(0)
    models = {"viewing": viewing(), "vit": pico.PicoViT(), "resnet": pico.PicoResNet()}
    chains = tuple(Chain(name, pico.alive(model), pico.IMAGE) for name, model in models.items())
    cards = tuple(replace(bricks.cards[0], name=name) for name in models)
    return replace(bricks, cards=cards, chains=chains, cuts=tuple((0, 1, 2, len(chain)) for chain in chains))


@pytest.fixture(scope="module")
def networks(zoo: Bricks) -> dict[str, Made]:
    """All hybrids of three blocks, and the networks themselves."""
    workshop = Workshop(zoo, 2**30)
    paths = product(range(3), repeat=3)
    return {str(path): workshop.reassemble(zoo.pick(path), "statistics") for path in paths}


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    """CPU threads for the grove; one again afterwards: wider fixtures of other files come before any test."""
    yield request.param
    torch.set_num_threads(1)


@torch.inference_mode()
def test_together_is_one_by_one(zoo: Bricks, networks: dict[str, Made], images: DataSet, threads: int) -> None:
    def shown(expected: Input) -> Loader:
        return Loader(images.images, np.arange(44), expected.transform(), 10)  # the last batch is smaller

    alone = {
        name: torch.cat([network(x) for x, _ in shown(recipe.input)]) for name, (network, recipe) in networks.items()
    }
    torch.set_num_threads(threads)
    grove = Grove.of(zoo, networks)
    found, again = (grove.answers(shown) for _ in range(2))
    assert found.keys() == alone.keys()
    for name, said in found.items():
        assert torch.equal(said, alone[name]), name
        assert torch.equal(said, again[name]), name
    assert len({said.numpy().tobytes() for said in found.values()}) == len(networks)
