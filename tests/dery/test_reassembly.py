"""Reassembly end to end on pico networks: costs as predicted, reload without the zoo, sources untouched."""

from copy import deepcopy
from math import prod
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lib import artifacts, cost
from lib.chain import Chain
from lib.data import Loader
from lib.dery import network
from lib.dery.assembly import AssemblyProblem
from lib.dery.reassembly import Bricks, problem, reassemble, stitch_r2
from lib.dery.tuning import untrained
from lib.errors import BrickyardError
from lib.params.assembly import Budget
from lib.sources import Images
from lib.zoo import Architecture, Card, Input
from tests import pico

CLASSES = ("a", "b", "c", "d")
FACTORIES = {"resnet": "tests.pico:PicoResNet", "vit": "tests.pico:PicoViT", "plain": "tests.pico:plain"}


@pytest.fixture(scope="module")
def bricks() -> Bricks:
    torch.manual_seed(0)
    pixels = np.random.default_rng(0).integers(0, 255, (48, 16, 16, 3), np.uint8)
    images = Images(np.arange(48) % 4, CLASSES, np.zeros(48, bool), lambda i: Image.fromarray(pixels[i]), "")
    expected = Input(16, (0.5,) * 3, (0.5,) * 3, "bicubic", 1.0)
    cards, chains = [], []
    for name, factory in FACTORIES.items():
        architecture = Architecture(None, None, factory, None, {}, 4)
        model = pico.alive(architecture.build())
        classes = CLASSES if name != "plain" else ("w", "x", "y", "z")
        cards.append(Card(name, architecture, expected, classes, (), "train", "none", cost.Cost(), None))
        chains.append(Chain(name, model, pico.IMAGE))
    loaders = tuple(Loader(images, np.arange(48), expected.transform(), 16) for _ in cards)
    cuts = ((0, 1, 3, 4), (0, 1, 2, 3), (0, 1, 2, 3))
    return Bricks(tuple(cards), tuple(chains), cuts, loaders, loaders, CLASSES, 1e-4)


@pytest.fixture(scope="module")
def task(bricks: Bricks) -> AssemblyProblem:
    return problem(bricks, stitch_r2(bricks), Budget(params=None, macs=None), 2)


def test_scores_are_log_r2_with_zero_where_nothing_is_stitched(task: AssemblyProblem) -> None:
    assert task.scores.shape == (2, 3, 3)
    assert (np.diagonal(task.scores, axis1=1, axis2=2) == 0).all()
    off = ~np.eye(3, dtype=bool)
    assert (task.scores[:, off] < 0).all()
    assert (task.scores >= np.log(1e-6)).all()


@pytest.mark.parametrize("path", [(0, 0, 1), (1, 0, 0), (0, 2, 1), (1, 2, 2), (2, 1, 0)])
def test_predicted_cost_is_the_saved_networks_own(
    bricks: Bricks, task: AssemblyProblem, path: tuple[int, ...], tmp_path: Path
) -> None:
    before = deepcopy([dict(chain.head.state_dict()) for chain in bricks.chains])
    states = [deepcopy(chain[0 : len(chain)].state_dict()) for chain in bricks.chains]
    made, recipe = reassemble(bricks, path)
    saved = network.save(tmp_path, made, recipe)
    again, loaded = network.load(tmp_path)
    assert loaded == saved
    counted, predicted = cost.count(again, pico.IMAGE), task.cost(path)
    assert counted == saved.cost
    assert (counted.params, counted.macs) == (predicted.params, predicted.macs)
    image = 4 * prod(pico.IMAGE)  # bytes, which the caller keeps alive all the time
    assert predicted.memory <= counted.memory <= predicted.memory + image
    x = torch.rand(4, *pico.IMAGE)
    with torch.no_grad():
        assert torch.equal(made(x), again(x))
    for chain, head, state in zip(bricks.chains, before, states, strict=True):  # the sources are left as they were
        assert all(torch.equal(head[k], v) for k, v in chain.head.state_dict().items())
        assert all(torch.equal(state[k], v) for k, v in chain[0 : len(chain)].state_dict().items())


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
    assert all(name.startswith(("parts.1.", "parts.3.", "head.")) for name in named)
    assert any(name.startswith("head.") for name in named)


def test_edited_weights_are_refused(bricks: Bricks, tmp_path: Path) -> None:
    made, recipe = reassemble(bricks, (0, 0, 2))
    network.save(tmp_path, made, recipe)
    state = {name: tensor + 1 for name, tensor in made.state_dict().items()}
    artifacts.write_tensors(tmp_path / "model.safetensors", state)
    with pytest.raises(BrickyardError, match="is not the file that recipe"):
        network.load(tmp_path)


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
