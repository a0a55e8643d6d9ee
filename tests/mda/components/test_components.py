from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from lib.base import artifacts
from lib.base.errors import BrickyardError
from lib.channels.cutting import cut
from lib.mda import classes
from lib.mda.components import component
from lib.mda.components.component import describe
from lib.mda.components.sizing import Masked
from lib.network import files
from lib.network.component import Component
from lib.params.components import Repair, Task
from tests.mda import pico

KEPT = {"0.0": (0, 2, 5), "1": (1, 2, 3, 7), "6": (0, 4), "9": (0, 2)}


def _masked(model: nn.Module, kept: dict[str, tuple[int, ...]], x: torch.Tensor) -> torch.Tensor:
    """The network with everything zeroed, before the next layer, that belongs to a dropped channel."""
    before = {"1": ("0.0", 1), "6": ("1", 4), "9": ("6", 1)}

    def zero(name: str):
        layer, positions = before[name]

        def hook(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
            keep = torch.zeros(inputs[0].shape[1] // positions)
            keep[list(kept[layer])] = 1
            keep = keep.repeat_interleave(positions)
            return (inputs[0] * keep.view(1, -1, *[1] * (inputs[0].ndim - 2)),)

        return hook

    handles = [model.get_submodule(name).register_forward_pre_hook(zero(name)) for name in before]
    with torch.no_grad():
        logits = model(x)[:, list(kept["9"])]
    for handle in handles:
        handle.remove()
    return logits


def test_cut_equals_masked() -> None:
    model, x = pico.plain(), pico.images(8)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    component = cut(model, KEPT, pico.SHAPE)
    assert [tuple(pico.weight(component, name).shape) for name in pico.LAYERS] == [
        (3, 3, 3, 3), (4, 3, 3, 3), (2, 16), (2, 2),
    ]  # fmt: skip
    with torch.no_grad():
        torch.testing.assert_close(component(x), _masked(model, KEPT, x), atol=1e-5, rtol=0)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, state[name]), "the source was changed"


def test_union() -> None:
    masks = {"b": torch.tensor([[1, 0, 0], [0, 0, 1], [1, 1, 1]]).bool(), "a": torch.eye(3).bool()}
    assert Masked(masks).kept([0, 1], "x") == {"a": (0, 1), "b": (0, 2)}


def test_round_trip_needs_no_source(tmp_path: Path) -> None:
    model = pico.plain()
    card = pico.card("pico", model, ("cat", "dog", "ship"), {})
    component = cut(model, KEPT, pico.SHAPE)
    recipe = describe("animals", component, KEPT, [0, 2], model, card)
    files.save(tmp_path, component, recipe)
    again, read = files.load_as(Component, tmp_path, trust=True)
    assert torch.equal(again(pico.images()), component(pico.images()))
    assert (read.classes, read.source.name, read.kept) == (("cat", "ship"), "pico", KEPT)
    assert read.source.checksum == artifacts.tensor_checksum(model.state_dict())
    assert read.cost.params == sum(p.numel() for p in again.parameters()) < read.source.cost.params
    assert not again.training


def test_weights_of_another_recipe_are_refused(tmp_path: Path) -> None:
    model = pico.plain()
    card = pico.card("pico", model, ("cat", "dog", "ship"), {})
    component = cut(model, KEPT, pico.SHAPE)
    files.save(tmp_path, component, describe("animals", component, KEPT, [0, 2], model, card))
    artifacts.write_tensors(tmp_path / "model.safetensors", pico.plain(seed=5).state_dict())
    with pytest.raises(BrickyardError, match=r"model\.safetensors does not belong to the JSON"):
        files.load_as(Component, tmp_path, trust=True)


@pytest.mark.parametrize(
    ("kept", "match"),
    [
        ({"1": ()}, "layer 1: 0 of its 8 channels"),
        ({"1": (8,)}, "layer 1: 1 of its 8 channels"),
        ({"nowhere": (0,)}, "no convolution or linear layer 'nowhere'"),
        ({"2": (0,)}, "no convolution or linear layer '2'"),
    ],
)
def test_kept_channels_that_do_not_fit(kept: dict[str, tuple[int, ...]], match: str) -> None:
    with pytest.raises(BrickyardError, match=match):
        cut(pico.plain(), kept, pico.SHAPE)


NAMES = ["cat", "dog", "ship", "frog"]


def test_class_numbers_and_outputs() -> None:
    assert classes.numbers(("ship", "cat"), NAMES, "pico") == [2, 0]
    assert classes.outputs("t", "0-2", NAMES, ("ship", "dog", "cat"), "pico") == [0, 1, 2]
    assert classes.outputs("t", "cat", NAMES, ("ship", "dog", "cat"), "pico") == [2]


def test_class_errors() -> None:
    with pytest.raises(
        BrickyardError, match=r"components\.tasks\.t: pico does not know class 'frog'; it knows cat, dog"
    ):
        classes.outputs("t", "1,frog", NAMES, ("cat", "dog"), "pico")
    with pytest.raises(BrickyardError, match="pico: the data set has no class 'cow'"):
        classes.numbers(("cat", "cow"), NAMES, "pico")
    with pytest.raises(BrickyardError, match="pico: the names of its classes are not known"):
        classes.numbers((), NAMES, "pico")
    with pytest.raises(
        BrickyardError, match=r"components\.tasks\.t: model 'vit' is not one of contributions\.models: a"
    ):
        classes.check_tasks({"t": Task(model="vit", classes="0")}, ["a"])
    with pytest.raises(BrickyardError, match=r"lego\.components: 'up' is not one of components\.tasks: high, low"):
        classes.check_chosen(["low", "up"], ["high", "low"])
    with pytest.raises(BrickyardError, match=r"lego\.components: 'low' is named twice"):
        classes.check_chosen(["low", "low"], ["high", "low"])


def test_what_is_remembered_goes_by_the_names_of_classes() -> None:
    """The names say from which images a component is repaired."""
    model = pico.plain()
    card = pico.card("pico", model, ("cat", "dog", "ship"), {})
    images: Any = SimpleNamespace(images=SimpleNamespace(checksum="x"), train=np.arange(5))

    def key(*names: str) -> str:
        source = component.Supplier(model, replace(card, classes=names), Masked({}))
        return component._key(source, KEPT, [0, 2], images, Repair(), 0)

    assert key("cat", "dog", "ship") == key("cat", "frog", "ship") != key("frog", "dog", "ship")
