"""Reassembly end to end on pico networks: costs as predicted, reload without the zoo, sources untouched."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
import torch

from lib import cost
from lib.dery import network, pricing
from lib.dery.assembly.problem import AssemblyProblem
from lib.dery.bricks import Bricks
from lib.dery.reassembly import reassemble
from lib.dery.tuning import untrained
from lib.params.assembly import Assembly
from tests import pico


@pytest.fixture
def task(bricks: Bricks, params: Callable[..., Assembly]) -> AssemblyProblem:
    return pricing.problem(bricks, params(), Path("data/latency.json"))


@pytest.mark.parametrize("path", [(0, 0, 1), (1, 0, 0), (0, 2, 1), (1, 2, 2), (2, 1, 0)])
def test_predicted_cost_is_the_saved_networks_own(
    bricks: Bricks, task: AssemblyProblem, path: tuple[int, ...], tmp_path: Path
) -> None:
    before = deepcopy([dict(chain.head.state_dict()) for chain in bricks.chains])
    states = [deepcopy(chain[0 : len(chain)].state_dict()) for chain in bricks.chains]
    made, recipe = reassemble(bricks, path)
    saved = network.save(tmp_path, made, recipe)
    again = network.load(tmp_path)
    assert again.recipe == saved
    counted = cost.count(again, pico.IMAGE)
    assert counted == saved.cost
    assert {kind: getattr(counted, kind) for kind in ("params", "macs", "memory")} == task.price(path)
    x = torch.rand(4, *pico.IMAGE)
    with torch.no_grad():
        assert torch.equal(made(x), again(x))
    for chain, head, state in zip(bricks.chains, before, states, strict=True):  # the sources are left as they were
        assert all(torch.equal(head[k], v) for k, v in chain.head.state_dict().items())
        assert all(torch.equal(state[k], v) for k, v in chain[0 : len(chain)].state_dict().items())


@pytest.mark.parametrize("cuts", [(0, 1, 3, 4), (0, 2, 3, 4), (0, 1, 2, 4)])
def test_every_candidate_keeps_the_memory_budget_that_it_was_chosen_by(
    bricks: Bricks, params: Callable[..., Assembly], cuts: tuple[int, ...]
) -> None:
    """As predicted wherever there are two sources; a whole network may need less."""
    bricks = replace(bricks, cuts=(cuts, *bricks.cuts[1:]))
    task = pricing.problem(bricks, params(), Path("data/latency.json"))
    for path in product(range(3), repeat=3):
        counted = cost.count(reassemble(bricks, path)[0], pico.IMAGE).memory
        assert counted <= task.price(path)["memory"]
        if len(set(path)) > 1:
            assert counted == task.price(path)["memory"]


def test_a_fitted_stitch_beats_a_random_one(bricks: Bricks) -> None:
    made, _ = reassemble(bricks, (0, 2, 2))
    first, stitch = made.parts[0], made.parts[1]
    x, _ = bricks.fit[0].all()
    with torch.no_grad():
        wanted = bricks.chains[2][0:1](x)
        error = (stitch(first(x)) - wanted).square().mean()
        random = type(stitch)(stitch.source, stitch.target)
        assert error < 0.8 * (random(first(x)) - wanted).square().mean()


def test_frozen_tuning_moves_stitches_and_head_alone(bricks: Bricks) -> None:
    made, _ = reassemble(bricks, (0, 2, 1))
    new = {id(p) for p in made.new_parameters()}
    named = {name for name, p in made.named_parameters() if id(p) in new}
    assert all(name.startswith(("stitch_1.", "stitch_2.", "head.")) for name in named)
    assert any(name.startswith("head.") for name in named)


def test_the_control_from_scratch_depends_on_the_seed_alone(bricks: Bricks) -> None:
    _, recipe = reassemble(bricks, (0, 1, 1))
    first = untrained(recipe, 3).state_dict()
    torch.rand(7)
    state = torch.get_rng_state()
    again = untrained(recipe, 3).state_dict()
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(first[name], again[name]) for name in first)
    other = untrained(recipe, 4).state_dict()
    assert any(not torch.equal(first[name], other[name]) for name in first)
