from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from lib import artifacts
from lib.errors import BrickyardError
from lib.mda import components, lego, saved
from tests.mda import pico

Parts = tuple[dict[str, nn.Module], dict[str, components.Recipe]]
KEPT = {
    "low": {"0.0": (0, 2, 5), "1": (1, 2, 3, 7), "6": (0, 4), "9": (0, 2)},
    "mid": {"0.0": (1, 4), "1": (0,), "6": (0, 1, 2), "9": (1,)},
    "high": {"0.0": (0, 1, 2, 3), "1": (4, 5), "6": (3,), "9": (0, 1, 2)},
}


@pytest.fixture
def parts() -> Parts:
    modules, recipes = {}, {}
    for seed, (name, kept) in enumerate(KEPT.items()):
        model = pico.plain(seed=seed)
        card = pico.card(f"source_{name}", model, tuple(f"{name}{i}" for i in range(3)), {})
        modules[name] = components.cut(model, kept, pico.SHAPE)
        recipes[name] = components.describe(name, modules[name], kept, kept["9"], model, card)
    return modules, recipes


def test_padded_equals_side_by_side(parts: Parts) -> None:
    modules, recipes = parts
    x = pico.images(8)
    network, recipe = lego.build(modules, recipes)
    with torch.no_grad():
        expected = torch.cat([module(x) for module in modules.values()], 1)
        torch.testing.assert_close(network(x), expected, atol=1e-5, rtol=0)
    assert recipe.classes == ("low0", "low2", "mid1", "high0", "high1", "high2")
    assert recipe.spans == [range(0, 2), range(2, 3), range(3, 6)]
    assert tuple(pico.weight(network, "0.0").shape) == (9, 3, 3, 3)
    assert recipe.cost.params == sum(p.numel() for p in network.parameters())


def test_kernels_between_parts_are_zero(parts: Parts) -> None:
    network, _ = lego.build(*parts)
    weight = pico.weight(network, "1")
    assert tuple(weight.shape) == (7, 9, 3, 3)
    assert not weight[:4, 3:].any()
    assert not weight[4:5, :3].any()
    assert not weight[4:5, 5:].any()
    assert torch.equal(weight[4:5, 3:5], pico.weight(parts[0]["mid"], "1"))


def test_order_is_the_one_given(parts: Parts) -> None:
    modules, recipes = parts
    order = ("high", "low")
    network, recipe = lego.build({n: modules[n] for n in order}, {n: recipes[n] for n in order})
    x = pico.images()
    torch.testing.assert_close(network(x)[:, :3], modules["high"](x), atol=1e-5, rtol=0)
    assert recipe.classes[:3] == ("high0", "high1", "high2")


def test_scaled_round_trip(parts: Parts, tmp_path: Path) -> None:
    network, recipe = lego.build(*parts)
    x, factors = pico.images(), [1.0, 2, 3, 0.5, 1, 10]
    scaled, scaled_recipe = lego.scaled(network, recipe, factors)
    torch.testing.assert_close(scaled(x), network(x) * torch.tensor(factors))
    saved.save(tmp_path, scaled, scaled_recipe)
    again, read = saved.load(tmp_path, lego.Recipe)
    assert torch.equal(again(x), scaled(x))
    assert read.classes == recipe.classes
    assert read.factors == tuple(factors)
    assert read.input == recipe.input
    stored = artifacts.read_json(tmp_path / "recipe.json")
    assert stored["kind"] == "lego"
    assert list(stored["parts"]) == ["low", "mid", "high"]


def test_parts_are_not_changed(parts: Parts) -> None:
    before = {name: artifacts.tensor_checksum(module.state_dict()) for name, module in parts[0].items()}
    network, _ = lego.build(*parts)
    with torch.no_grad():
        for tensor in network.state_dict().values():
            tensor.zero_()
    assert before == {name: artifacts.tensor_checksum(module.state_dict()) for name, module in parts[0].items()}


def test_sources_side_by_side(parts: Parts) -> None:
    _, recipe = lego.build(*parts)
    logits = {f"source_{name}": torch.tensor([[1.0, 2, 3]]) * 10**i for i, name in enumerate(KEPT)}
    names = {f"source_{name}": [f"{name}{i}" for i in range(3)] for name in KEPT}
    assert lego.side_by_side(recipe, logits, names).tolist() == [[1, 3, 20, 100, 200, 300]]


def test_what_does_not_fit_is_named(parts: Parts) -> None:
    _, recipes = parts
    low, high = recipes["low"], recipes["high"]
    with pytest.raises(BrickyardError, match=r"lego\.components: low and high both have class 'low2'"):
        lego.check({"low": low, "high": replace(high, classes=("low2", "x", "y"))})
    other = replace(high, architecture=replace(high.architecture, kwargs={"seed": 3}))
    with pytest.raises(BrickyardError, match=r"low \(from source_low\) and high \(from source_high\) differ in archi"):
        lego.check({"low": low, "high": other})
    with pytest.raises(BrickyardError, match=r"low \(from source_low\) and high \(from source_high\) expect different"):
        lego.check({"low": low, "high": replace(high, input=replace(high.input, size=24))})
    lego.check({"low": low, "high": replace(high, architecture=replace(high.architecture, num_classes=9))})


def test_weights_that_cannot_be_put_side_by_side() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.act, self.fc = nn.Conv2d(3, 4, 3), nn.PReLU(), nn.Linear(4, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(self.conv(x).mean((2, 3)))

    with pytest.raises(BrickyardError, match=r"a: act \(PReLU\) has weights that cannot be put side by side"):
        lego.assemble({"a": Odd(), "b": Odd()}, pico.SHAPE)
    with pytest.raises(BrickyardError, match="not all of a, b have a module"):
        lego.assemble({"a": pico.plain(), "b": Odd()}, pico.SHAPE)
