"""The logic of studies/cifar10, on made data."""

import shutil
from dataclasses import replace
from itertools import permutations, product
from pathlib import Path

import numpy as np
import pytest
import torch

from lib.base.artifacts import tensor_checksum
from lib.dery.assembly.agreement import kendall_tau
from lib.dery.assembly.grove import Grove
from lib.dery.assembly.material import Bricks
from lib.dery.assembly.reassembly import reassemble
from lib.images.data import DataSet, Loader, stratified_sample
from lib.network.blocks import Block, Pick
from lib.params.assembly import Assembly
from lib.params.training import Training
from studies.cifar10 import bootstrap, grafts
from studies.cifar10.group import Group, Worth
from studies.cifar10.target import target
from studies.cifar10.tree import fused, judged, reassembled
from studies.cifar10.tuned import tuned
from studies.cifar10.untrained import unseen
from studies.sheet import Page, Result, Sheet, write_part
from tests.dery.conftest import PARAMS, bricks, images

__all__ = ["bricks", "images"]


def test_paired_bootstrap_agrees_with_drawing_the_images():
    generator = np.random.default_rng(1)
    ours, theirs = generator.random(400) < 0.8, generator.random(400) < 0.7
    found = bootstrap.difference(ours, theirs, seed=0)
    drawn = generator.integers(400, size=(10_000, 400))
    naive = 100 * (ours[drawn].mean(1) - theirs[drawn].mean(1))
    assert found.value == pytest.approx(100 * (ours.mean() - theirs.mean()))
    assert [found.low, found.high] == pytest.approx(np.percentile(naive, [2.5, 97.5]), abs=0.3)


def test_networks_that_agree_on_every_image_differ_by_nothing():
    right = np.arange(50) % 3 > 0
    assert bootstrap.difference(right, right.copy(), 0) == bootstrap.Estimate(0, 0, 0)


def test_the_interval_of_tau_holds_it_and_narrows_with_more_networks():
    generator = np.random.default_rng(2)
    truth = generator.normal(size=200)
    guess = truth + generator.normal(size=200)
    few, many = (bootstrap.tau(guess[:n].tolist(), truth[:n].tolist(), 0, 300) for n in (20, 200))
    assert few.low < few.value < few.high
    assert many.high - many.low < few.high - few.low
    drawn = np.random.default_rng(0).integers(20, size=(300, 20))
    naive = [kendall_tau(guess[own].tolist(), truth[own].tolist()) for own in drawn]
    assert [few.low, few.high] == pytest.approx(np.percentile([t for t in naive if t is not None], [2.5, 97.5]))


def test_pick_and_regret():
    score = {(0, 1): 3.0, (1, 0): 2.0, (1, 1): 1.0}
    again = {(0, 1): 50.0, (1, 0): 60.0, (1, 1): 99.0}
    chosen = bootstrap.pick(list(score), score, again, pool=2)
    assert chosen == (1, 0)  # (1, 1) is not in the pool
    assert bootstrap.regret(list(score), chosen, {(0, 1): 70.0, (1, 0): 71.5, (1, 1): 74.0}) == 2.5
    assert bootstrap.affordable({(0, 1): 5, (1, 0): 6, (1, 1): 7}, 6) == [(0, 1), (1, 0)]


def test_random_search_over_all_candidates_takes_the_one_it_likes_and_over_one_takes_any():
    within = [(0,), (1,), (2,)]
    liked, accuracy = {(0,): 1.0, (1,): 3.0, (2,): 2.0}, {(0,): 90.0, (1,): 60.0, (2,): 75.0}
    assert bootstrap.random_pick(within, liked, accuracy, 3, 0) == 60.0
    assert bootstrap.random_pick(within, liked, accuracy, 1, 0) == pytest.approx(75.0, abs=1.5)
    assert bootstrap.random_pick(within, None, accuracy, 5, 0) == 75.0


def test_a_tree_answers_as_its_networks_do_one_by_one(bricks: Bricks, images: DataSet):
    paths = list(product(range(3), range(3), range(2)))  # the third network needs a head whose answers are near ties
    networks = reassembled(bricks, paths, "layers_and_head")
    found = judged(bricks, networks, images, np.arange(48))
    for path in paths:
        alone, recipe = reassemble(bricks, bricks.pick(path), "layers_and_head")
        assert tensor_checksum(alone.state_dict()) == tensor_checksum(networks[path][0].state_dict())
        x, y = Loader(images.images, np.arange(48), recipe.input.transform(), 50).all()
        with torch.no_grad():
            assert (found[path] == (alone(x).argmax(1) == y).numpy()).all(), path


def test_equal_beginnings_are_computed_once(bricks: Bricks):
    paths = [(0, 0, 0), (0, 0, 1), (0, 1, 1), (0, 1, 2)]
    networks = reassembled(bricks, paths, "layers")
    grove = Grove.of(bricks, {str(path): network for path, network in networks.items()}, fused)
    (roots,) = grove.roots.values()
    (first,) = roots.values()
    assert len(first.children) == 2  # the second block of network 0 itself, and a stitch to network 1
    stitch = next(child for child in first.children.values() if not child.heads and len(child.children) == 1)
    (second,) = stitch.children.values()
    assert len(second.children) == 2  # the third block of network 1, and a stitch to network 2


def test_tuning_leaves_the_network_as_it_was_and_those_that_share_its_beginning(
    bricks: Bricks, images: DataSet, tmp_path: Path
):
    networks = reassembled(bricks, [(0, 1, 0), (0, 1, 2)], "layers")
    (first, recipe), (second, _) = networks.values()
    assert first.parts[1] is second.parts[1]
    before = [tensor_checksum(network.state_dict()) for network in (first, second)]
    settings = Training(epochs=1, batch_size=8, learning_rate=1e-2, weight_decay=0.0, warmup=0.0, label_smoothing=0.0)
    wanted = {"frozen": (settings, 16), "full": (settings, 16)}
    found = dict(tuned(first, recipe, images, wanted, 0, tmp_path))
    assert list(found) == ["frozen", "full"]
    assert all(len(right) == len(images.test) for right in found.values())
    assert before == [tensor_checksum(network.state_dict()) for network in (first, second)]
    again = dict(tuned(first, recipe, images, wanted, 0, tmp_path))  # from the states that are left
    assert all((again[protocol] == right).all() for protocol, right in found.items())


def test_images_that_choose_have_fitted_no_head(images: DataSet):
    params = Assembly.model_validate({**PARAMS, "head_images": 20})
    found = stratified_sample(images.images, images.train, params.head_images, 0)
    left = unseen("halves", images, params, 0)
    assert len(left) == len(images.train) - len(found)
    assert not np.isin(found, left).any()
    assert unseen("resnets", images, params, 0) is images.train


def test_the_target_of_the_transfer_has_the_other_classes_renumbered(images: DataSet):
    doubled = images.images
    ten = DataSet(
        type(doubled)(np.arange(48) % 10, tuple("abcdefghij"), doubled.held_out, doubled.image, "x"),
        *(np.arange(40), np.arange(40, 44), np.arange(44, 48), np.arange(8)),
    )
    task = target(ten)
    assert task.images.classes == ("f", "g", "h", "i", "j")
    assert set(task.images.labels) == set(range(5))
    assert len(task.train) == 20
    assert len(task.probe) == 8
    assert set(task.probe) <= set(task.train)
    for i in task.train[:3]:
        label = int(task.images.labels[i])
        old = [j for j in range(48) if ten.images.labels[j] == label + 5 and j in ten.train]
        assert any(task.images.image(int(i)).tobytes() == ten.images.image(j).tobytes() for j in old)


def test_grafts_are_the_networks_that_they_say_and_stand_where_they_say(bricks: Bricks, images: DataSet):
    bricks = replace(bricks, joining=grafts.SETTING.joining(bricks.joining))
    lengths = [len(chain) for chain in bricks.chains]
    every = grafts.drawn(bricks, 10**6, 0)
    pairs = [(one - 1) * (other - 1) for one, other in permutations(lengths, 2)]
    assert len(set(every)) == len(every) == sum(pairs)
    some = grafts.drawn(bricks, 5, 0)
    assert len(some) == 5
    assert set(some) < set(every) != set(grafts.drawn(bricks, 5, 1))
    starts = [0, lengths[0], lengths[0] + lengths[1]]
    similar = np.arange(sum(lengths) ** 2, dtype=float).reshape(sum(lengths), -1)
    chosen = [(0, 1, 1, 1), (0, 3, 1, 2), (1, 2, 0, 3)]  # networks 0 and 1 know the task, so that heads are theirs
    rows = grafts.measured(bricks, chosen, similar, starts, images, np.arange(48))
    for (a, i, b, j), row in zip(chosen, rows, strict=True):
        names = [card.name for card in bricks.cards]
        assert (row["front"], row["back"], row["last"], row["after"]) == (names[a], names[b], i, j)
        assert row["cka"] == similar[starts[a] + i - 1, starts[b] + j - 1]
        assert bricks.cuts[a][row["front_stage"] - 1] < i <= bricks.cuts[a][row["front_stage"]]
        assert bricks.cuts[b][row["back_stage"] - 1] <= j < bricks.cuts[b][row["back_stage"]]
        made, recipe = reassemble(bricks, Pick((Block(names[a], 0, i), Block(names[b], j, lengths[b]))), "statistics")
        x, y = Loader(images.images, np.arange(48), recipe.input.transform(), 48).all()
        with torch.no_grad():
            front, stitch, back = made.parts
            torch.testing.assert_close(front(x), bricks.chains[a][0:i](x))
            right = made.heads[0](back(stitch(front(x)))).argmax(1) == y
        assert row["accuracy"] == pytest.approx(100 * right.double().mean().item())
        own = reassemble(bricks, bricks.whole(b))[0]
        with torch.no_grad():
            assert row["kept"] * 100 * (own(x).argmax(1) == y).double().mean().item() == pytest.approx(row["accuracy"])
    found = grafts.summary(rows)
    assert found["tau"]["cka"] == kendall_tau([row["cka"] for row in rows], [row["kept"] for row in rows])
    assert sum(own["count"] for own in found["kept"].values()) == found["grafts"] == 3


def test_results_survive_the_disk(tmp_path: Path):
    result = Result({"x": 1.5}, (Sheet("t", ("a", "b"), (("1", "2"),), "n"),))
    result.save(tmp_path / "r.json")
    assert Result.load(tmp_path / "r.json") == result
    assert "| a | b |\n| --- | ---: |\n| 1 | 2 |" in result.sheets[0].markdown()


def test_studies_share_a_page(tmp_path: Path):
    write_part(tmp_path, "mda", "old\n")
    write_part(tmp_path, "cifar10", "## Blocks\n\n<b>1</b>\n")
    write_part(tmp_path, "mda", "new\n")
    written = (tmp_path / "results.md").read_text()
    assert written.index("# Results on CIFAR-10") < written.index("## Blocks\n\n<b>1</b>\n") < written.index("new\n")
    assert "old" not in written
    write_part(tmp_path, "mda-2", "second\n")
    write_part(tmp_path, "mda", "new\n")
    assert (tmp_path / "results.md").read_text() == written + "\n<!-- mda-2 -->\nsecond\n<!-- end -->\n"


def test_a_page_takes_the_tables_that_there_are_and_keeps_the_others(tmp_path: Path):
    docs, tables, plots = (tmp_path / name for name in ("docs", "tables", "plots"))
    page = Page(docs, "mda", tables, plots)
    titles = {"routes": ("Routes", "tables@routes"), "forms": ("Forms", "forms")}
    for text, made in (("first", ("routes", "forms")), ("second", ("forms",))):
        shutil.rmtree(tables, ignore_errors=True)
        for name in made:
            Result({}, (Sheet(f"{text} {name}", ("a",), (("1",),)),)).save(tables / f"{name}.json")
        page.write(f"## {text} opening\n", titles, {"routes": "routes.svg"})
    written = (docs / "results.md").read_text()
    parts = ("## second opening", "### 1. Routes", "repro tables@routes`", "![routes.svg](../plots/routes.svg)")
    places = [written.index(part) for part in (*parts, "**first routes**", "### 2. Forms", "**second forms**")]
    assert places == sorted(places)
    assert "first opening" not in written
    assert "first forms" not in written


def test_a_group_survives_the_disk_and_knows_its_paths(tmp_path: Path):
    paths = list(product(range(2), repeat=2))
    worth = {path: Worth(10 + i, 100 + i, -0.5 * i, -0.25 * i, 1.0 * i) for i, path in enumerate(paths)}
    group = Group("mixed", ("vit", "plain"), ((0, 1, 3), (0, 2, 4)), 8, worth)
    group.save(tmp_path)
    assert Group.load(tmp_path) == group
    assert group.hybrids == [(0, 1), (1, 0)]
    assert group.sources == [(0, 0), (1, 1)]
    assert group.crossings == {"CNN front, ViT back": [(1, 0)], "ViT front, CNN back": [(0, 1)]}
    assert [group.title(path) for path in ((0, 1), (1, 1))] == ["vit > plain", "plain"]
