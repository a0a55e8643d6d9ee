"""A zoo of three pico networks, cut into three blocks each."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from lib.chain.chain import Chain
from lib.dery.assembly.material import Bricks
from lib.images.data import DataSet, Loader
from lib.images.sources import Images
from lib.params.assembly import Assembly
from lib.params.edges import Edges
from lib.trace import cost
from lib.zoo.architecture import Architecture, Factory
from lib.zoo.card import Card, Input
from tests import pico

CLASSES = ("a", "b", "c", "d")
FACTORIES = {"resnet": "tests.pico:PicoResNet", "vit": "tests.pico:PicoViT", "plain": "tests.pico:plain"}
LICENCES = {"resnet": "MIT", "vit": "Apache-2.0", "plain": "MIT"}
PARAMS = {
    **{"budget": {"params": None, "macs": None}, "min_sources": 2, "pool": 5, "head_images": 40, "rank_images": 40},
    **{"random_assemblies": 2, "random_search": 3, "batch_size": 16},
}


@pytest.fixture(scope="session")
def images() -> DataSet:
    pixels = np.random.default_rng(0).integers(0, 255, (48, 16, 16, 3), np.uint8)
    found = Images(np.arange(48) % 4, CLASSES, np.zeros(48, bool), lambda i: Image.fromarray(pixels[i]), "")
    return DataSet(found, np.arange(40), np.arange(40, 44), np.arange(44, 48), np.arange(40))


@pytest.fixture(scope="session")
def bricks(images: DataSet) -> Bricks:
    torch.manual_seed(0)
    expected = Input(16, (0.5,) * 3, (0.5,) * 3, "bicubic", 1.0)
    cards, chains = [], []
    for name, factory in FACTORIES.items():
        architecture = Architecture(None, None, factory, Factory.find(factory, trust=True).sha256, {}, 4)
        model = pico.alive(architecture.build(trust=True))
        classes = CLASSES if name != "plain" else ("w", "x", "y", "z")
        cards.append(
            Card(
                name, architecture, expected, classes, (), "train", LICENCES[name], cost.count(model, pico.IMAGE), None
            )
        )
        chains.append(Chain(name, model, pico.IMAGE))
    loaders = tuple(Loader(images.images, np.arange(48), expected.transform(), 16) for _ in cards)
    cuts = ((0, 1, 3, 4), (0, 1, 2, 3), (0, 1, 2, 3))
    return Bricks(
        cards=tuple(cards),
        chains=tuple(chains),
        cuts=cuts,
        fit=loaders,
        classes=CLASSES,
        joining=Edges(batch_size=16),
        labelled=loaders,
    )


@pytest.fixture
def params() -> Callable[..., Assembly]:
    def changed(**changes: Any) -> Assembly:
        return Assembly.model_validate({**PARAMS, **changes})

    return changed
