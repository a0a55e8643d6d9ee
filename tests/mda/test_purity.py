"""What lib is given stays as and where it is: weights, mode and device of a caller's network."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from lib.base import artifacts
from lib.images.data import DataSet
from lib.images.sources import Images
from lib.mda.choice.architect import choose, suppliers
from lib.mda.choice.evaluation import Evaluation
from lib.mda.components import component
from lib.mda.contributions.found import Found
from lib.mda.lego import comparison, lego
from lib.params.components import Components, Repair, Size, Task
from lib.params.lego import Budget, Choose, Lego
from lib.trace.duplicate import evaluating
from lib.zoo.adapter import Prepared
from lib.zoo.card import Card, Input
from tests.mda import pico

NAMES = ("cat", "dog", "ship")
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def images() -> DataSet:
    drawn = np.random.default_rng(0).integers(0, 255, (60, 12, 12, 3), dtype=np.uint8)
    labels = np.arange(60) % 3
    found = Images(labels, NAMES, np.zeros(60, bool), lambda i: Image.fromarray(drawn[i]), "drawn")
    return DataSet(found, np.arange(36), np.arange(36, 48), np.arange(48, 60), np.arange(4))


@pytest.fixture
def network() -> tuple[nn.Module, Card, Found]:
    """In train mode, but for one module."""
    model = pico.plain()
    card = pico.card("pico", model, NAMES, {})
    masks = {"0.0": torch.ones(3, 6), "1": torch.ones(3, 8), "6": torch.ones(3, 5), "9": torch.eye(3)}
    masks["1"][:, 5:] = 0
    selected = {name: torch.arange(c, 12, 3) for c, name in enumerate(NAMES)}
    model.train().get_submodule("1").eval()
    return model, card, Found({name: mask.bool() for name, mask in masks.items()}, selected)


@contextmanager
def untouched(*modules: nn.Module) -> Iterator[None]:
    def seen() -> list[object]:
        return [
            (
                artifacts.tensor_checksum(module.state_dict()),
                [part.training for part in module.modules()],
                [tensor.device for tensor in module.state_dict().values()],
                [parameter.grad is None for parameter in module.parameters()],
            )
            for module in modules
        ]

    before = seen()
    yield
    assert seen() == before


def test_a_network_is_copied_only_where_it_is_not_as_wanted() -> None:
    model = pico.plain()
    assert evaluating(model) is model
    assert evaluating(model, CPU) is model
    with untouched(model):
        moved = evaluating(model, torch.device("meta"))
    assert {tensor.device.type for tensor in moved.state_dict().values()} == {"meta"}
    model.get_submodule("2").train()
    with untouched(model):
        found = evaluating(model, CPU)
    assert not any(part.training for part in found.modules())


def test_a_network_that_is_prepared_for_other_images() -> None:
    model, own = pico.plain().train(), Input(12, (0.5,) * 3, (0.5,) * 3, "bicubic", 1.0)
    with untouched(model):
        prepared = Prepared(model, own, own)
        prepared.to(torch.device("meta"))
    assert not prepared.network.training


@pytest.mark.parametrize("size", [None, Size(params=0.5)])
def test_components(size: Size | None, images: DataSet, network: tuple[nn.Module, Card, Found], tmp_path: Path) -> None:
    model, card, found = network
    params = Components(tasks={"t": Task(model="pico", classes="0-1")}, size=size)
    with untouched(model):
        supplier = component.supplier(model, card, found, [0, 1], images, params, pico.contributions(), 0)
    with untouched(model, supplier.module):
        made = component.make("t", supplier, [0, 1], images, Repair(images=20), 0, tmp_path)
        again = component.make("t", supplier, [0, 1], images, Repair(images=20), 0, tmp_path)
    assert len(list(tmp_path.iterdir())) == 1
    for one in (made, again):
        assert not any(part.training for part in one.module.modules())
    same = again.module.state_dict()
    assert all(torch.equal(weight, same[name]) for name, weight in made.module.state_dict().items())
    assert not torch.equal(pico.weight(made.module, "9"), pico.weight(made.unrepaired, "9"))


def test_choices_and_assemblies(images: DataSet, network: tuple[nn.Module, Card, Found], tmp_path: Path) -> None:
    model, card, found = network
    params = Components(tasks={"t": Task(model="pico", classes="0-1")})
    wanted = Choose(classes="all", models=["pico"], budget=Budget())
    settings = Lego(choose=wanted, scaling="affine", scaling_images_per_class=4)
    with untouched(model):
        evaluation = Evaluation(images, settings, wanted, 0, CPU)
        evaluation.answers("test", {"pico": (model, card)})
        sources = suppliers({"pico": (model, card, found)}, evaluation, params, pico.contributions(), 0)
        (tried,) = choose(sources, evaluation, wanted, Repair(images=20), 0, tmp_path).tried
        assembly, recipe = lego.build(tried.parts, tried.recipes, "parallel")
        with untouched(assembly.train(), *tried.parts.values()):
            measured = comparison.run(assembly, recipe, {"pico": (model, card)}, images, settings, 0, CPU)
        assert comparison.run(assembly.eval(), recipe, {"pico": (model, card)}, images, settings, 0, CPU) == measured
