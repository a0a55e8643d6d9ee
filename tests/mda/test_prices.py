"""Prices of components whose size is given: set of classes by set."""

import itertools
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from lib.base.errors import BrickyardError
from lib.channels.cutting import cut
from lib.mda.choice import architect, offers, prices, selection
from lib.mda.choice.kept import Kept
from lib.mda.components.component import Supplier
from lib.mda.components.sizing import Sized, sized
from lib.params.components import Size
from lib.params.lego import Budget, Choose
from lib.trace import cost
from lib.trace.cost import Cost
from tests.mda import pico

NAMES = ("a", "b", "c", "d")
SIZES = (0.4, 0.6, 0.3)


def _channels(m: int) -> tuple[torch.nn.Module, Sized]:
    model = pico.plain(len(NAMES), (6 + m, 8, 5), seed=m)
    batches = {c: [(pico.images(6, seed=c), torch.full((6,), c))] for c in range(len(NAMES))}
    return model, sized(model, pico.SHAPE, batches, pico.contributions(), Size(params=SIZES[m]), 0, f"m{m}")


@cache
def _sources(least: int) -> tuple[offers.Source, ...]:
    generator = torch.Generator().manual_seed(0)
    found = []
    for m in range(3):
        accuracy = {name: float(torch.randint(50, 100, (), generator=generator)) for name in NAMES}
        listed = prices.listed(_channels(m)[1], NAMES, NAMES, least, f"m{m}")
        found.append(offers.Source(f"m{m}", accuracy, listed))
    return tuple(found)


def _problem(**limits: Any) -> offers.Problem:
    return offers.Problem(NAMES, _sources(limits.get("least", 1)), **limits)


def test_every_set_costs_what_its_component_costs() -> None:
    model, channels = _channels(0)
    found = prices.listed(channels, NAMES, ("b", "c", "d"), 2, "m0")
    wanted = [own for n in (2, 3) for own in itertools.combinations("bcd", n)]
    assert set(found.components) == set(map(frozenset, wanted))
    assert [own for own, _ in found.sets(("b", "c", "d"), 2)] == wanted
    for own in wanted:
        part = cut(model, channels.kept([NAMES.index(name) for name in own], "m0"), pico.SHAPE)
        counted = cost.count(part, pico.SHAPE)
        assert found.cost(own) == Cost(counted.params, counted.macs)
        assert counted.params == pytest.approx(0.4 * cost.count(model, pico.SHAPE).params, rel=0.2)
    biased = found.plus(Cost(params=1), NAMES)
    assert biased.cost("bcd").params == found.cost("bcd").params + 3
    assert found.cost(()) == Cost()


@pytest.mark.parametrize("least", [1, 2])
def test_the_best_within_a_budget_is_that_of_brute_force(least: int) -> None:
    whole = _problem(least=least)
    everything = []
    for assignment in itertools.product(range(3), repeat=len(NAMES)):
        if all(len(own) >= least for own in whole.taken(assignment).values()):
            everything.append((whole.accuracy(assignment), whole.cost(assignment).params))
    limits = sorted({params for _, params in everything})
    assert len(limits) > 3, "sets of one size differ in price"
    for limit in (limits[0], limits[len(limits) // 2], limits[-1]):
        found = selection.choose(_problem(least=least, params=limit))
        best = max((accuracy, -params) for accuracy, params in everything if params <= limit)
        assert (found.accuracy, found.cost.params) == pytest.approx((best[0], -best[1]))
    match = rf"params = 10 \(with all else free, the least is {limits[0]}\); .* lower components\.size"
    with pytest.raises(BrickyardError, match=match):
        selection.choose(_problem(least=least, params=10))
    with pytest.raises(BrickyardError, match=r"least = 5: .* or have no component of components\.size .*lower it"):
        selection.choose(_problem(least=5))


def test_sets_that_cannot_have_the_size_are_not_offered() -> None:
    """Without the logits of other classes, less is left than is wanted; with more classes it is enough."""
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 3), torch.nn.Flatten(), torch.nn.Linear(2 * 36, 4)).eval()
    batches = {c: [(pico.images(4, seed=c, shape=(3, 8, 8)), torch.full((4,), c))] for c in range(4)}

    def channels(share: float) -> Sized:
        return sized(model, (3, 8, 8), batches, pico.contributions(), Size(params=share), 0, "net")

    found = prices.listed(channels(0.6), NAMES, NAMES, 1, "net")
    assert {len(own) for own in found.components} == {3, 4}
    with pytest.raises(BrickyardError, match=r"lego\.choose: net: components\.size: its largest component has 0\.\d+"):
        prices.listed(channels(0.6), NAMES, NAMES[:2], 1, "net")


def test_too_many_sets_are_refused_before_any_is_priced(monkeypatch: pytest.MonkeyPatch) -> None:
    model, channels = _channels(0)
    names = tuple(f"c{i}" for i in range(4))
    networks = {name: Supplier(model, pico.card(name, model, names, {}), channels) for name in ("one", "two")}
    kept = Kept(tuple(networks), names, np.stack([np.eye(4, dtype=np.float32)] * 2), np.arange(4))
    wanted = Choose(classes="all", models=["one", "two"], budget=Budget())
    monkeypatch.setattr(prices, "SETS", 2 * 11)  # of 2, 3 and 4 of four classes
    assert len(architect.problem(networks, kept, wanted).sources) == 2
    monkeypatch.setattr(prices, "SETS", 2 * 11 - 1)
    monkeypatch.setattr(prices, "listed", None)
    with pytest.raises(BrickyardError, match=r"lego\.choose: with components\.size, each of 22 sets .* of 21 at most"):
        architect.problem(networks, kept, wanted)
