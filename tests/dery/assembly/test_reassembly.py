"""Reassembly end to end on pico networks: costs as predicted, reload without the zoo, sources untouched."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any, Literal, get_args

import pytest
import torch

from lib.dery.assembly import prices
from lib.dery.assembly.material import Bricks
from lib.dery.assembly.reassembly import reassemble
from lib.dery.assembly.recount import recount
from lib.dery.paths.problem import AssemblyProblem, Candidate
from lib.dery.tuning import tune, untrained
from lib.images.data import DataSet
from lib.network.files import load_as, save
from lib.network.reassembled import Reassembled
from lib.params.assembly import Assembly, Treatment
from lib.params.edges import Edges
from lib.params.training import Training
from lib.trace import cost
from tests import pico, thinned

HOWS: tuple[Treatment, ...] = get_args(Treatment)


@pytest.mark.parametrize(
    ("path", "down", "init"),
    thinned(
        [
            (path, down, init)
            for path in ((0, 0, 1), (1, 2, 2), (2, 1, 0))
            for down, init in (("pool", "least_squares"), ("patch", "least_squares"), ("auto", "paper"))
        ],
        2,
    ),
)
def test_predicted_cost_is_the_saved_networks_own(
    bricks: Bricks,
    params: Callable[..., Assembly],
    down: Literal["auto", "pool", "patch"],
    init: Literal["least_squares", "paper"],
    path: tuple[int, ...],
    tmp_path: Path,
) -> None:
    bricks = replace(bricks, joining=Edges(init=init, down=down))
    task = prices.assembly_problem(bricks, params(), Path("data/latency.json"))
    before = deepcopy([dict(chain.head.state_dict()) for chain in bricks.chains])
    states = [deepcopy(chain[0 : len(chain)].state_dict()) for chain in bricks.chains]
    made, recipe = reassemble(bricks, bricks.pick(path))
    saved = save(tmp_path, made, recipe)
    again, read = load_as(Reassembled, tmp_path, trust=True)
    assert read == saved
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
    task = prices.assembly_problem(bricks, params(), Path("data/latency.json"))
    for path in product(range(3), repeat=3):
        made, _ = reassemble(bricks, bricks.pick(path), "none")  # costs the same
        counted = cost.count(made, pico.IMAGE).memory
        assert counted <= task.price(path)["memory"]
        if len(set(path)) > 1:
            assert counted == task.price(path)["memory"]


def test_a_fitted_stitch_beats_a_random_one(bricks: Bricks) -> None:
    made, _ = reassemble(bricks, bricks.pick((0, 2, 2)))
    first, stitch = made.parts[0], made.parts[1]
    x, _ = bricks.fit[0].all()
    with torch.no_grad():
        wanted = bricks.chains[2][0:1](x)
        error = (stitch(first(x)) - wanted).square().mean()
        random = type(stitch)(stitch.source, stitch.target)
        assert error < 0.8 * (random(first(x)) - wanted).square().mean()


@torch.no_grad()
@pytest.mark.parametrize("init", ["least_squares", "random", "identity"])
@pytest.mark.parametrize("path", [(0, 2, 2), (0, 1, 1)])
def test_recalibrated_activations_have_the_targets_moments(
    bricks: Bricks, init: Literal["least_squares", "random", "identity"], path: tuple[int, ...]
) -> None:
    """BatchNorm statistics where there are some (network 2), else the mean and variance that leave the stitch."""
    bricks = replace(bricks, joining=Edges(init=init))
    plain, treated = (reassemble(bricks, bricks.pick(path), how)[0] for how in ("none", "statistics"))
    x, _ = bricks.fit[0].all()
    inputs = [net.parts[1](net.parts[0](x)) for net in (plain, treated)]
    target = bricks.chains[path[1]]
    own = target[0:1](x)
    if path[1] == 2:
        assert torch.equal(*inputs)
        source = dict(target[1:3].named_buffers())
        assert all(torch.equal(v, source[k]) for k, v in plain.parts[2].named_buffers())
        assert any(not torch.equal(v, source[k]) for k, v in treated.parts[2].named_buffers() if "running" in k)
    else:
        means = [values[:, 1:].mean((0, 1)) for values in (*inputs, own)]
        torch.testing.assert_close(means[1], means[2], atol=1e-4, rtol=1e-3)
        assert init == "least_squares" or not torch.allclose(means[0], means[2], atol=1e-2)
        moved = inputs[1][:, 1:].var((0, 1)) > 1e-6  # not what identity fills up with zeros
        torch.testing.assert_close(inputs[1][:, 1:].var((0, 1))[moved], own[:, 1:].var((0, 1))[moved])


@torch.no_grad()
@pytest.mark.parametrize("path", [(0, 1, 1), (2, 0, 0)])
def test_a_refitted_head_follows_the_sources_own_logits(bricks: Bricks, path: tuple[int, ...]) -> None:
    """With `head` and `layers_and_head` it alone differs from what is without; `layers` has blocks of its own."""
    bricks = replace(bricks, pull=1e-2)
    made = {how: reassemble(bricks, bricks.pick(path), how) for how in HOWS}
    x, _ = bricks.fit[path[0]].all()
    chain = bricks.chains[path[1]]
    own = chain.head(chain[0 : len(chain)](x))
    error = {how: float((network(x) - own).square().mean()) for how, (network, _) in made.items()}
    assert error["head"] < error["statistics"]
    assert error["layers_and_head"] < min(error["layers"], error["statistics"])
    blocks = {how: torch.nn.ModuleList(network.parts) for how, (network, _) in made.items()}
    heads = {how: network.heads[0] for how, (network, _) in made.items()}
    for refitted, kept in (("head", "statistics"), ("layers_and_head", "layers")):
        assert _same(blocks[refitted], blocks[kept])
        assert _same(heads[kept], chain.head)
        assert not _same(heads[refitted], chain.head)
        assert [made[how][1].tails[0].refitted for how in (refitted, kept)] == [True, False]
    assert not _same(blocks["layers"], blocks["statistics"])
    whole, recipe = reassemble(bricks, bricks.whole(path[1]), "layers_and_head")
    assert torch.equal(whole(x), own)  # without a stitch nothing is refitted
    assert not recipe.tails[0].refitted


def _same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    states = one.state_dict(), other.state_dict()
    return states[0].keys() == states[1].keys() and all(torch.equal(v, states[1][k]) for k, v in states[0].items())


def test_a_budget_holds_whatever_form_the_fit_takes(bricks: Bricks, params: Callable[..., Assembly]) -> None:
    task = prices.assembly_problem(bricks, params(), Path("data/latency.json"))
    for path in [(0, 2, 1), (1, 2, 2), (2, 1, 0), (2, 0, 0)]:
        counted = cost.count(reassemble(bricks, bricks.pick(path))[0], pico.IMAGE)
        assert counted.params <= task.price(path)["params"]
        assert counted.macs <= task.price(path)["macs"]


def test_frozen_tuning_moves_stitches_and_head_alone(bricks: Bricks) -> None:
    made, _ = reassemble(bricks, bricks.pick((0, 2, 1)))
    new = {id(p) for p in made.new_parameters()}
    named = {name for name, p in made.named_parameters() if id(p) in new}
    assert all(name.startswith(("stitch_1.", "stitch_2.", "head.")) for name in named)
    assert any(name.startswith("head.") for name in named)


@torch.no_grad()
@pytest.mark.parametrize("how", ["none", "statistics", "layers"])
def test_the_papers_stitch_is_recalibrated_counted_and_learns(
    bricks: Bricks, how: Literal["none", "statistics", "layers"]
) -> None:
    bricks = replace(bricks, joining=Edges(init="paper"))
    made, recipe = reassemble(bricks, bricks.pick((0, 2, 1)), how)
    x, _ = bricks.fit[0].all()
    stitch: Any = made.parts[1]
    given = made.parts[0](x)
    own = (given.mean((0, 2, 3)), given.var((0, 2, 3), correction=0))
    neutral = (torch.zeros_like(own[0]), torch.ones_like(own[1]))
    found = (stitch.norm.running_mean, stitch.norm.running_var)
    for value, expected in zip(found, neutral if how == "none" else own, strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-5)
    assert [part["form"] for part in recipe.parts if part["kind"] == "stitch"] == ["paper", "paper"]
    recount("r1", made, recipe, bricks, Candidate.of(problem(bricks), (0, 2, 1)).cost, {})
    new = {id(p) for p in made.new_parameters()}
    named = {name for name, p in made.named_parameters() if id(p) in new}
    assert {f"stitch_1.{one}" for one in ("norm.weight", "norm.bias", "channels.weight")} <= named


def test_tuning_a_frozen_network_moves_the_statistics_of_the_papers_stitch_alone(
    bricks: Bricks, images: DataSet
) -> None:
    bricks = replace(bricks, joining=Edges(init="paper"))
    made, _ = reassemble(bricks, bricks.pick((0, 2, 1)))
    before = {name: value.clone() for name, value in made.state_dict().items()}
    rest = {"weight_decay": 0.0, "warmup": 0.0, "label_smoothing": 0.0}
    settings = Training.model_validate({"epochs": 1, "batch_size": 16, "learning_rate": 1e-2, **rest})
    tune(made, images, {"frozen": settings}, 0)
    moved = {name for name, value in made.state_dict().items() if not torch.equal(value, before[name])}
    assert all(name.startswith(("stitch_", "head.")) for name in moved)
    assert {"stitch_1.norm.running_mean", "stitch_1.norm.weight", "stitch_1.channels.weight"} <= moved


def problem(bricks: Bricks) -> AssemblyProblem:
    counts = dict.fromkeys(("pool", "head_images", "rank_images", "random_assemblies", "batch_size"), 16)
    budget = {"params": None, "macs": None}
    params = Assembly.model_validate({"budget": budget, "min_sources": 1, **counts})
    return prices.assembly_problem(bricks, params, Path("data/latency.json"))


def test_the_control_from_scratch_depends_on_the_seed_alone(bricks: Bricks) -> None:
    _, recipe = reassemble(bricks, bricks.pick((0, 1, 1)))
    first = untrained(recipe, 3).state_dict()
    torch.rand(7)
    state = torch.get_rng_state()
    again = untrained(recipe, 3).state_dict()
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(first[name], again[name]) for name in first)
    other = untrained(recipe, 4).state_dict()
    assert any(not torch.equal(first[name], other[name]) for name in first)
