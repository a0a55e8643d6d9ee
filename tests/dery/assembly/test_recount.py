"""What was predicted of a network is what is counted of it, also where its blocks have weights in common."""

from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from lib.base.errors import BrickyardError
from lib.chain.chain import Chain
from lib.dery.assembly import prices
from lib.dery.assembly.built import Design
from lib.dery.assembly.material import Bricks
from lib.dery.assembly.ranking import Ranked
from lib.dery.assembly.reassembly import reassemble
from lib.dery.assembly.recount import finished, recount
from lib.dery.paths.problem import Candidate
from lib.dery.paths.tables import Kind, Table
from lib.params.assembly import Assembly
from lib.trace import cost
from tests import pico

UNMEASURED = Path("data/latency.json")


def _network(order: list[int]) -> nn.Module:
    """Residual blocks, of which some are the same one."""
    blocks = [pico.Residual(6, 6) for _ in range(max(order) + 1)]
    layers = [nn.Conv2d(3, 6, 3, 2, 1), nn.Sequential(*(blocks[i] for i in order)), nn.AdaptiveAvgPool2d(1)]
    return pico.alive(nn.Sequential(*layers, nn.Flatten(), nn.Linear(6, 4)))


@pytest.fixture(scope="module")
def sharing(bricks: Bricks) -> Bricks:
    """One network of blocks a, b, a, b, one of a, b, c, a, and one whose blocks are its own; four blocks each."""
    torch.manual_seed(0)
    chains = tuple(
        Chain(f"n{i}", _network(o), pico.IMAGE) for i, o in enumerate(([0, 1, 0, 1], [0, 1, 2, 0], [0, 1, 2, 3]))
    )
    cards = tuple(replace(card, name=chain.name) for card, chain in zip(bricks.cards, chains, strict=True))
    return replace(bricks, cards=cards, chains=chains, cuts=((0, 1, 2, 3, 4),) * 3)


def test_paths_have_what_it_is_priced_at(sharing: Bricks, params: Callable[..., Assembly]) -> None:
    problem = prices.assembly_problem(sharing, params(), UNMEASURED)
    assert set(problem.shared) == {"params"}
    for path in [*product(range(3), repeat=4)][::11]:
        network, recipe = reassemble(sharing, sharing.pick(path))
        counted = recount("x", network, recipe, sharing, problem.price(path), problem.limits)
        assert problem.price(path)["params"] == counted.params == cost.params(network)
        assert problem.price(path)["macs"] == counted.macs


def test_neighbours_that_share_are_priced_step_by_step(sharing: Bricks, params: Callable[..., Assembly]) -> None:
    halves = replace(sharing, cuts=((0, 2, 4),) * 3)
    problem = prices.assembly_problem(halves, params(), UNMEASURED)
    assert problem.shared == {}
    chain = sharing.chains[0]
    assert problem.costs["params"].stitches[0].diagonal().tolist() == [-cost.params(chain[2:4]), -672, 0]
    assert problem.cost((0, 0), "params") == chain.total.params
    assert problem.cost((2, 0), "params") > cost.params(chain[2:4]) == chain.cost(2, 4).params > 0


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("params", -1, r"r1 \(n0 0:1 > n2 1:4\) has [\d,]+ params when it is counted, [\d,]+ were predicted"),
        ("params", 1, "params when it is counted"),
        ("macs", -1, "macs when it is counted"),
        ("memory", -(10**6), "memory when it is counted"),
    ],
)
def test_a_wrong_prediction_is_an_error(
    sharing: Bricks, params: Callable[..., Assembly], kind: Kind, change: int, message: str
) -> None:
    problem, path = prices.assembly_problem(sharing, params(), UNMEASURED), (0, 2, 2, 2)
    network, recipe = reassemble(sharing, sharing.pick(path))
    made = Ranked(Design(Candidate.of(problem, path), ("layers",)), {}, (network, recipe))
    kept = finished(sharing, [made, replace(made, made=None)], problem.limits)
    assert [one.counted for one in kept] == [cost.count(network, pico.IMAGE), None]
    table = problem.costs[kind]
    first = np.arange(len(table.blocks))[:, None] == 0
    wrong = Table(table.blocks + change * first, table.stitches)
    if kind == "memory":
        wrong = Table(table.blocks + change, table.stitches + change)
    predicted = Candidate.of(replace(problem, costs={**problem.costs, kind: wrong}), path)
    with pytest.raises(BrickyardError, match=message):
        finished(sharing, [replace(made, design=replace(made.design, candidate=predicted))], problem.limits)


def test_a_limit_that_is_exceeded_is_an_error(sharing: Bricks, params: Callable[..., Assembly]) -> None:
    problem, path = prices.assembly_problem(sharing, params(), UNMEASURED), (0, 2, 2, 2)
    network, recipe = reassemble(sharing, sharing.pick(path))
    predicted = problem.price(path)
    with pytest.raises(BrickyardError, match=r"; assembly\.budget\.params is"):
        recount("r1", network, recipe, sharing, predicted, {"params": predicted["params"] - 1})
    recount("r1", network, recipe, sharing, predicted, {})
    with pytest.raises(BrickyardError, match=r"; assembly\.budget\.at_least\.macs is"):
        recount("r1", network, recipe, sharing, predicted, {}, {"macs": predicted["macs"] + 1})
    recount("r1", network, recipe, sharing, predicted, {}, {"macs": predicted["macs"], "params": 1})
