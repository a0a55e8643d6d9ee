"""Trees: what candidates that begin alike share is there once, and the logits are the mean of their own."""

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations, product
from pathlib import Path
from typing import Any

import pytest
import torch

from lib.base.errors import BrickyardError
from lib.dery.assembly import prices
from lib.dery.assembly.material import Bricks
from lib.dery.assembly.reassembly import reassemble
from lib.dery.assembly.recount import recount
from lib.dery.assembly.tree import plant
from lib.dery.assembly.workshop import Workshop
from lib.dery.paths import trees
from lib.dery.paths.tables import Columns
from lib.network.files import load_as, save
from lib.network.modules import LinearHead
from lib.network.reassembled import Reassembled
from lib.params.assembly import Assembly, Treatment
from lib.trace import cost
from tests import pico, thinned

LATENCY = Path("data/latency.json")
TREES: list[list[Columns]] = [
    [(0, 0, 0), (0, 0, 1)],  # a front, its own back, and another back
    [(0, 1, 1), (0, 1, 0), (0, 0, 0)],  # parts behind a stitch, too
    [(2, 2, 2), (1, 1, 1)],  # nothing in common: an ensemble of whole networks
    [(0, 2, 1), (0, 2, 2), (1, 2, 2)],
]


@pytest.mark.parametrize(
    ("paths", "how"),
    thinned([*((paths, "layers") for paths in TREES), (TREES[1], "statistics"), (TREES[3], "layers_and_head")], 2, 1),
)
@torch.no_grad()
def test_a_tree_answers_with_the_mean_of_its_tails(
    bricks: Bricks, params: Callable[..., Assembly], paths: list[Columns], how: Treatment, tmp_path: Path
) -> None:
    task = prices.assembly_problem(bricks, params(), LATENCY)
    picks = [bricks.pick(path) for path in paths]
    chains = [reassemble(bricks, pick, how) for pick in picks]
    weights = [0.5, 0.3, 0.2][: len(paths)] if len(paths) > 2 else [0.75, 0.25]
    made, recipe = plant(bricks, picks, chains, weights)
    x = torch.rand(6, *pico.IMAGE)
    own = [network(x) for network, _ in chains]
    for found, expected in zip(made.tails(x), own, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(made(x), sum(w * y for w, y in zip(weights, own, strict=True)), atol=1e-5, rtol=1e-5)
    assert [tail.refitted for tail in recipe.tails] == [told.tails[0].refitted for _, told in chains]
    assert trees.may_join(task, paths)
    priced, counted = trees.price(task, paths), cost.count(made, pico.IMAGE)
    assert (counted.params, counted.macs) == (priced["params"], priced["macs"])
    assert counted.memory <= priced["memory"]
    apart = sum(cost.count(network, pico.IMAGE).params for network, _ in chains)
    assert (counted.params == apart) == (paths == TREES[2])
    recount("tree", made, recipe, bricks, priced, {})
    save(tmp_path, made, recipe)
    again, read = load_as(Reassembled, tmp_path, trust=True)
    assert torch.equal(again(x), made(x))
    assert read.words == recipe.words
    assert read.words.count(" + ") == len(paths) - 1


@torch.no_grad()
def test_a_tree_costs_what_was_foreseen(bricks: Bricks, params: Callable[..., Assembly]) -> None:
    """Some of all pairs and triples; needs no more memory."""
    task = prices.assembly_problem(bricks, params(), LATENCY)
    every = list(product(range(3), repeat=3))
    workshop = Workshop(bricks, 2**30)
    made = {path: workshop.reassemble(bricks.pick(path), "none") for path in every}
    sets = [*list(combinations(every, 2))[::28], *list(combinations(every, 3))[::400]]
    for paths in sets:
        if trees.may_join(task, paths):
            picks = [bricks.pick(path) for path in paths]
            network, _ = plant(bricks, picks, [made[path] for path in paths], [1 / len(paths)] * len(paths))
            priced, counted = trees.price(task, paths), cost.count(network, pico.IMAGE)
            assert (counted.params, counted.macs) == (priced["params"], priced["macs"])
            assert counted.memory <= priced["memory"]


def test_what_is_shared_is_there_once(bricks: Bricks) -> None:
    picks = [bricks.pick(path) for path in ((0, 0, 0), (0, 0, 1), (0, 1, 1))]
    _, recipe = plant(bricks, picks, [reassemble(bricks, pick) for pick in picks], [0.5, 0.25, 0.25])
    blocks = [(part["source"], part["start"], part["stop"], part["after"]) for part in recipe.parts if "nodes" in part]
    assert len({part[:3] for part in blocks}) == len(blocks)
    assert len([part for part in blocks if part[3] is None]) == 1
    assert len(recipe.tails) == 3
    assert recipe.head_names == ("head_1", "head_2", "head_3")


def test_a_tree_learns_in_all_its_parts(bricks: Bricks) -> None:
    picks = [bricks.pick(path) for path in ((0, 0, 0), (0, 0, 1))]
    made, _ = plant(bricks, picks, [reassemble(bricks, pick) for pick in picks], [0.5, 0.5])
    made.train()
    torch.nn.functional.cross_entropy(made(torch.rand(4, *pico.IMAGE)), torch.arange(4)).backward()
    assert all(parameter.grad is not None for parameter in made.parameters())
    new = {id(p) for p in made.new_parameters()}
    named = {name.split(".")[0] for name, p in made.named_parameters() if id(p) in new}
    assert named == {"stitch_1", "head_1", "head_2"}


def test_candidates_that_were_put_together_differently_are_no_tree(bricks: Bricks) -> None:
    picks = [bricks.pick(path) for path in ((0, 1, 1), (0, 1, 0))]
    chains = [reassemble(bricks, pick, how) for how, pick in zip(("layers", "statistics"), picks, strict=True)]
    with pytest.raises(BrickyardError, match="is another one in two candidates"):
        plant(bricks, picks, chains, [0.5, 0.5])


def test_a_tail_that_knows_other_classes_is_one_line(bricks: Bricks) -> None:
    """When the tree is made, and when one that is opened is counted: a single logit would be broadcast."""
    picks = [bricks.pick(path) for path in ((0, 0, 0), (2, 2, 2))]
    other = replace(bricks, classes=("w", "x", "y", "z"))
    chains = [reassemble(own, pick) for own, pick in zip((bricks, other), picks, strict=True)]
    with pytest.raises(BrickyardError, match=r"^plain 0:3 knows w, x, y, z; every tail .* know the task's a, b, c, d$"):
        plant(bricks, picks, chains, [0.5, 0.5])
    chains = [reassemble(bricks, pick) for pick in picks]
    made, _ = plant(bricks, picks, chains, [0.5, 0.5])
    new = made.heads[1]
    assert isinstance(new, LinearHead)
    setattr(made, "head_2", LinearHead(new.source, 1))  # noqa: B010
    with pytest.raises(BrickyardError, match=r"^its tails know other classes .*: logits are 4 of head_1, 1 of head_2$"):
        cost.count(made, pico.IMAGE)


@pytest.mark.parametrize("kind", ["params", "macs"])
def test_the_price_is_that_of_all_different_beginnings(
    bricks: Bricks, params: Callable[..., Assembly], kind: Any
) -> None:
    """Brute force over prefixes, of all pairs and of some triples."""
    task = prices.assembly_problem(bricks, params(), LATENCY)
    table, every = task.costs[kind], list(product(range(3), repeat=3))
    for paths in [*combinations(every, 2), *list(combinations(every, 3))[::97]]:
        prefixes = {path[:length] for path in paths for length in range(1, 4)}
        expected = 0.0
        for prefix in prefixes:
            k = len(prefix) - 1
            expected += table.blocks[k, prefix[-1]] + (table.stitches[k - 1, prefix[-2], prefix[-1]] if k else 0)
        assert trees.price(task, paths)[kind] == expected


@torch.no_grad()
def test_roots_that_expect_other_images_prepare_them_for_themselves(bricks: Bricks, tmp_path: Path) -> None:
    own, other = bricks.cards[0].input, replace(bricks.cards[0].input, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    bricks = replace(bricks, cards=(*bricks.cards[:2], replace(bricks.cards[2], input=other)))
    picks = [bricks.pick(path) for path in ((0, 0, 0), (2, 2, 2))]
    chains = [reassemble(bricks, pick) for pick in picks]
    made, recipe = plant(bricks, picks, chains, [0.5, 0.5])
    assert recipe.input == own
    pixels = torch.rand(4, *pico.IMAGE)
    given, theirs = ((pixels - _column(one.mean)) / _column(one.std) for one in (own, other))
    first, second = made.tails(given)
    torch.testing.assert_close(first, chains[0][0](given))
    torch.testing.assert_close(second, chains[1][0](theirs), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(second, chains[1][0](given), atol=1e-3)
    save(tmp_path, made, recipe)
    assert torch.equal(load_as(Reassembled, tmp_path, trust=True)[0](given), made(given))


def _column(values: tuple[float, ...]) -> torch.Tensor:
    return torch.tensor(values)[:, None, None]
