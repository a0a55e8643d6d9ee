import itertools
from dataclasses import replace
from typing import Any

import pytest
import torch

from lib.base.errors import BrickyardError
from lib.channels.channels import Coupling
from lib.channels.coupling import couple
from lib.channels.cutting import cut
from lib.mda.choice import offers, prices, selection
from lib.mda.components.sizing import Masked
from lib.trace import cost, graph
from tests import pico as branched
from tests import thinned
from tests.mda import networks, pico

NAMES = ("a", "b", "c", "d")
ALL = [s for n in range(1, 4) for s in itertools.combinations(range(3), n)]


def _random_masks(coupling: Coupling, classes: int, share: float) -> dict[str, torch.Tensor]:
    """Every class needs some channels, the same in all layers that make them; every layer has some of each class."""
    wanted = torch.rand(classes, coupling.count) < share
    for layer in coupling.layers[:-1]:
        wanted[:, layer.outputs[0]] = True
    wanted[:, list(coupling.fixed)] = True
    masks = {layer.name: wanted[:, list(layer.outputs)] for layer in coupling.layers}
    masks[coupling.classifier.name] = torch.eye(classes, dtype=torch.bool)
    return masks


@pytest.mark.parametrize("kind", [pico.plain, branched.PicoResNet, networks.Dense])
def test_prices_add_up_to_the_network_that_is_cut(kind: Any) -> None:
    model = kind(num_classes=3) if kind is not networks.Dense else kind()
    shape = pico.SHAPE if kind is pico.plain else networks.SHAPE
    coupling = couple(graph.trace(model, "net", shape), "net")
    classes = [str(i) for i in range(len(coupling.classifier.outputs))]
    masks = _random_masks(coupling, len(classes), 0.4)
    found_prices = prices.shared(model, coupling, masks, classes)
    for outputs in ALL:
        component = cut(model, Masked(masks).kept(outputs, "net"), shape)
        real, found = cost.count(component, shape), found_prices.cost([classes[i] for i in outputs])
        assert (found.params, found.macs) == (real.params, real.macs)


def _problem(seed: int, **limits: Any) -> offers.Problem:
    torch.manual_seed(seed)
    sources = []
    for m, known in enumerate((NAMES, NAMES[:3], NAMES[1:])):
        model = pico.plain(len(known), (6 + m, 8, 5), seed=m)
        coupling = couple(graph.trace(model, "net", pico.SHAPE), "net")
        masks = _random_masks(coupling, len(known), 0.35)
        accuracy = {name: float(torch.randint(50, 100, ())) for name in known}
        sources.append(offers.Source(f"m{m}", accuracy, prices.shared(model, coupling, masks, known)))
    return offers.Problem(NAMES, tuple(sources), **limits)


def _all(problem: offers.Problem) -> list[tuple[float, int, int]]:
    """(accuracy, params, macs) of every legal assignment."""
    found = []
    for assignment in itertools.product(range(3), repeat=len(NAMES)):
        taken = problem.taken(assignment)
        legal = all(name in problem.sources[m].accuracy for m, names in taken.items() for name in names)
        if legal and all(len(names) >= problem.least for names in taken.values()):
            price = problem.cost(assignment)
            found.append((problem.accuracy(assignment), price.params, price.macs))
    return found


@pytest.mark.parametrize("seed", thinned(range(4), 2))
@pytest.mark.parametrize("least", [1, 2])
@pytest.mark.parametrize("program", ["columns", "pairs"])
def test_equals_brute_force(seed: int, least: int, program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if program == "pairs":
        monkeypatch.setattr(selection, "COLUMNS", 0)
    everything = _all(_problem(seed, least=least))
    params, macs = sorted(p for _, p, _ in everything), sorted(m for _, _, m in everything)
    for share in (0.05, 0.3, 1.0):
        at = int(share * (len(everything) - 1))
        wanted = _problem(seed, least=least, params=params[at], macs=macs[max(at, len(macs) // 2)])
        within = [(a, -p) for a, p, m in everything if p <= params[at] and m <= macs[max(at, len(macs) // 2)]]
        if not within:
            with pytest.raises(BrickyardError, match="no choice of components is within"):
                selection.choose(wanted)
            continue
        found = selection.choose(wanted)
        assert (found.accuracy, found.cost.params) == pytest.approx((max(within)[0], -max(within)[1]))
        assert found.bound == pytest.approx(found.accuracy, abs=1e-4)
        assert sorted(name for names in found.tasks.values() for name in names) == sorted(NAMES)


def test_shared_channels_are_paid_once() -> None:
    source = _problem(0).sources[0]
    assert isinstance(source.prices, prices.Shared)
    apart = source.cost("a").params + source.cost("b").params
    assert source.cost("ab").params < apart
    assert source.prices.of("ab").cost("ab") == source.cost("ab")
    assert source.cost(()) == cost.Cost()


@pytest.mark.parametrize("program", ["columns", "pairs"])
def test_what_cannot_be_met_is_named(program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if program == "pairs":
        monkeypatch.setattr(selection, "COLUMNS", 0)
    whole = _problem(0)
    least = min(p for _, p, _ in _all(whole))
    with pytest.raises(
        BrickyardError, match=rf"budget: .*params = 10 \(with all else free, the least is {least}\); raise"
    ):
        selection.choose(_problem(0, params=10))
    missing = offers.Problem((*NAMES, "ship"), whole.sources)
    with pytest.raises(BrickyardError, match="none of m0, m1, m2 knows class 'ship'; leave it out"):
        selection.choose(missing)
    with pytest.raises(BrickyardError, match=r"least = 5: .*lower it"):
        selection.choose(_problem(0, least=5))


@pytest.mark.parametrize("program", ["columns", "pairs"])
@pytest.mark.parametrize("seed", range(3))
def test_no_more_networks_than_are_allowed(seed: int, program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if program == "pairs":
        monkeypatch.setattr(selection, "COLUMNS", 0)
    params = sorted(p for _, p, _ in _all(_problem(seed)))
    wanted = _problem(seed, params=params[len(params) // 2])
    for most in (1, 2, 3):
        limited = replace(wanted, most=most)
        legal = [limited.accuracy(one) for one in itertools.product(range(3), repeat=4) if limited.is_legal(one)]
        found = selection.within(limited)
        assert (found is None) == (not legal)
        if found is not None:
            assert len(found.tasks) <= most
            assert found.accuracy == pytest.approx(max(legal))
            assert limited.accuracy(found.assignment(limited)) == found.accuracy
            assert limited.is_legal(found.assignment(limited))
