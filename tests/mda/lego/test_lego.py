from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from lib.base import artifacts
from lib.base.errors import BrickyardError
from lib.channels.cutting import cut
from lib.mda.components.component import describe
from lib.mda.lego import lego
from lib.network import files
from lib.network.assembled import Assembled, Form, widest
from lib.network.component import Component
from lib.network.modules import Parallel
from lib.network.scaling import Scaling
from lib.trace import cost
from tests.mda import pico

Parts = tuple[dict[str, nn.Module], dict[str, Component]]
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
        modules[name] = cut(model, kept, pico.SHAPE)
        recipes[name] = describe(name, modules[name], kept, kept["9"], model, card)
    return modules, recipes


def _expecting(recipe: Component, **changes: Any) -> Component:
    """A component whose source expects other images."""
    return replace(recipe, source=replace(recipe.source, input=replace(recipe.input, **changes)))


def _built(recipe: Component, **changes: Any) -> Component:
    """A component of another architecture."""
    architecture = replace(recipe.source.architecture, **changes)
    return replace(recipe, source=replace(recipe.source, architecture=architecture))


FORMS: tuple[Form, ...] = ("parallel", "padded")


@pytest.mark.parametrize("form", FORMS)
def test_equals_side_by_side(parts: Parts, form: Form) -> None:
    modules, recipes = parts
    x = pico.images(8)
    network, recipe = lego.build(modules, recipes, form)
    with torch.no_grad():
        expected = torch.cat([module(x) for module in modules.values()], 1)
        torch.testing.assert_close(network(x), expected, atol=1e-5, rtol=0)
    assert recipe.classes == ("low0", "low2", "mid1", "high0", "high1", "high2")
    assert recipe.spans == [range(0, 2), range(2, 3), range(3, 6)]
    assert recipe.cost.params == sum(p.numel() for p in network.parameters())


def test_branches_cost_what_the_parts_cost(parts: Parts) -> None:
    _, recipe = lego.build(*parts, "parallel")
    assert recipe.cost.params == sum(part.cost.params for part in recipe.parts.values())
    assert recipe.cost.macs == sum(part.cost.macs for part in recipe.parts.values())
    _, padded = lego.build(*parts, "padded")
    assert padded.cost.params > 1.5 * recipe.cost.params


@pytest.mark.parametrize("form", FORMS)
def test_order_is_the_one_given(parts: Parts, form: Form) -> None:
    modules, recipes = parts
    order = ("high", "low")
    network, recipe = lego.build({n: modules[n] for n in order}, {n: recipes[n] for n in order}, form)
    x = pico.images()
    torch.testing.assert_close(network(x)[:, :3], modules["high"](x), atol=1e-5, rtol=0)
    assert recipe.classes[:3] == ("high0", "high1", "high2")


@pytest.mark.parametrize("form", FORMS)
def test_scaled_round_trip(parts: Parts, tmp_path: Path, form: Form) -> None:
    network, recipe = lego.build(*parts, form)
    x, by = pico.images(), Scaling((1.0, 2, 3, 0.5, 1, 10), (0.0, 1, -2, 0, 3, 4))
    before = network(x)
    scaled, scaled_recipe = lego.scaled(network, recipe, by)
    torch.testing.assert_close(scaled(x), by(before))
    assert torch.equal(network(x), before)
    files.save(tmp_path, scaled, scaled_recipe)
    again, read = files.load_as(Assembled, tmp_path, trust=True)
    assert torch.equal(again(x), scaled(x))
    assert read.classes == recipe.classes
    assert (read.scaling, read.form) == (by, form)
    assert read.input == recipe.input
    stored = artifacts.read_json(tmp_path / "recipe.json")
    assert stored["kind"] == "assembled"
    assert list(stored["parts"]) == ["low", "mid", "high"]


def normed(num_classes: int = 3, seed: int = 0) -> nn.Module:
    """A network with a BatchNorm behind its last layer."""
    model, last = pico.plain(num_classes, seed=seed), nn.BatchNorm1d(num_classes)
    nn.init.uniform_(last.running_mean, 1.0, 2.0)  # type: ignore[arg-type]
    return model.append(last).eval()


def capped(num_classes: int = 3, seed: int = 0) -> nn.Module:
    """A network whose last layer is followed by a curve."""
    return pico.plain(num_classes, seed=seed).append(nn.Tanh()).eval()


def hooked(num_classes: int = 3, seed: int = 0) -> nn.Module:
    """A network that squares what its last module, which does nothing, is given."""
    model = pico.plain(num_classes, seed=seed).append(nn.Identity()).eval()
    model[-1].register_forward_hook(lambda _, __, made: made * made.abs())
    return model


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("make", [normed, capped, hooked])
def test_scaled_behind_what_follows_the_last_layer(make: Callable[..., nn.Module], tmp_path: Path, form: Form) -> None:
    modules, recipes = {}, {}
    for seed, (name, kept) in enumerate(KEPT.items()):
        model = make(seed=seed)
        card = pico.card(f"source_{name}", model, tuple(f"{name}{i}" for i in range(3)), {})
        card = replace(card, architecture=replace(card.architecture, factory=f"{__name__}:{make.__name__}"))
        modules[name] = cut(model, kept, pico.SHAPE)
        recipes[name] = describe(name, modules[name], kept, kept["9"], model, card)
    recipes["high"] = _expecting(recipes["high"], std=(0.4, 0.5, 0.6)) if form == "parallel" else recipes["high"]
    network, recipe = lego.build(modules, recipes, form)
    x, by = pico.images(), Scaling((1.0, 2, 3, 0.5, 1, 10), (0.0, 1, -2, 0, 3, 4))
    scaled, scaled_recipe = lego.scaled(*lego.scaled(network, recipe, by), by)
    torch.testing.assert_close(scaled(x), by(by(network(x))))
    files.save(tmp_path, scaled, scaled_recipe)
    again, _ = files.load_as(Assembled, tmp_path, trust=True)
    assert torch.equal(again(x), scaled(x))


def test_a_scaling_that_is_not_what_was_asked_for_is_refused(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lego, "scale", lambda network, *_: network)
    with pytest.raises(BrickyardError, match=r"write lego\.scaling: none"):
        lego.scaled(*lego.build(*parts, "parallel"), Scaling((2.0,) * 6, (0.0,) * 6))


def test_branches_prepare_their_own_images(parts: Parts, tmp_path: Path) -> None:
    """Of equally large images the first part's are given; the others normalise them anew."""
    modules, recipes = parts
    mean, std = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)
    other = _expecting(recipes["high"], mean=mean, std=std)
    network, recipe = lego.build(modules, {**recipes, "high": other}, "parallel")
    assert recipe.input == recipes["low"].input
    image = torch.rand(3, *pico.SHAPE)
    given, own = (image - 0.5) / 0.5, (image - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    with torch.no_grad():
        expected = torch.cat([modules["low"](given), modules["mid"](given), modules["high"](own)], 1)
        torch.testing.assert_close(network(given), expected, atol=1e-5, rtol=0)
    files.save(tmp_path, *lego.scaled(network, recipe, Scaling((2.0,) * 6, (1.0,) * 6)))
    again, _ = files.load_as(Assembled, tmp_path, trust=True)
    torch.testing.assert_close(again(given), 2 * expected + 1, atol=1e-5, rtol=0)


def test_the_largest_image_is_given() -> None:
    small, large = (pico.card("x", pico.plain(), (), {}).input for _ in range(2))
    large = replace(large, size=24)
    assert widest([small, large, small]) == large
    network = Parallel([nn.AdaptiveAvgPool2d(1), nn.Flatten()], [large, small], large)
    assert cost.count(nn.Sequential(network.branches[1]), (3, 24, 24)).macs == 0
    assert network.branches[1](torch.ones(2, 3, 24, 24)).shape == (2, 3 * 12 * 12)


@pytest.mark.parametrize("form", FORMS)
def test_parts_are_not_changed(parts: Parts, form: Form) -> None:
    before = {name: artifacts.tensor_checksum(module.state_dict()) for name, module in parts[0].items()}
    network, _ = lego.build(*parts, form)
    with torch.no_grad():
        for tensor in network.state_dict().values():
            tensor.zero_()
    assert before == {name: artifacts.tensor_checksum(module.state_dict()) for name, module in parts[0].items()}


def test_sources_side_by_side(parts: Parts) -> None:
    _, recipe = lego.build(*parts, "parallel")
    logits = {f"source_{name}": torch.tensor([[1.0, 2, 3]]) * 10**i for i, name in enumerate(KEPT)}
    names = {f"source_{name}": [f"{name}{i}" for i in range(3)] for name in KEPT}
    assert lego.side_by_side(recipe, logits, names).tolist() == [[1, 3, 20, 100, 200, 300]]


def test_what_does_not_fit_is_named(parts: Parts) -> None:
    _, recipes = parts
    low, high = recipes["low"], recipes["high"]
    with pytest.raises(BrickyardError, match=r"lego\.components: low and high both have class 'low2'"):
        lego.check({"low": low, "high": replace(high, classes=("low2", "x", "y"))}, "parallel")
    other = {"low": low, "high": _built(high, kwargs={"seed": 3})}
    with pytest.raises(BrickyardError, match=r"low \(from source_low\) and high \(from source_high\) differ in archi"):
        lego.check(other, "padded")
    lego.check(other, "parallel")
    larger = {"low": low, "high": _expecting(high, size=24)}
    with pytest.raises(BrickyardError, match=r"low \(from source_low\) and high \(from source_high\) expect different"):
        lego.check(larger, "padded")
    lego.check(larger, "parallel")
    lego.check({"low": low, "high": _built(high, num_classes=9)}, "padded")
