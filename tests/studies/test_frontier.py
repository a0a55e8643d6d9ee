"""Budgets, who may be chosen within them and who wins: on pico networks, against brute force and definitions."""

import os
from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from itertools import combinations, product
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import binomtest
from torch import nn
from torch.nn import functional

from lib.base.memo import Memo
from lib.dery.assembly import built, forms, narrowing, prices
from lib.dery.assembly.fronts import Fronts
from lib.dery.assembly.material import Bricks
from lib.dery.assembly.reassembly import reassemble
from lib.dery.assembly.widened import widened
from lib.dery.paths import trees
from lib.dery.paths.tables import Kind
from lib.fit import stacking
from lib.images.data import DataSet
from lib.network.component import Component
from lib.params.assembly import Assembly
from lib.params.components import Repair
from studies.cifar10.bootstrap import difference, holm, sign_test
from studies.frontier import task, untrained
from studies.frontier.answers import FROZEN, STRONGER, UNTRAINED, Answered, Answers, Role, Round, choosers
from studies.frontier.field import NOWHERE, Field, View, budgets, cost, is_narrow_throughout, title
from studies.frontier.pruned import Pruned
from studies.frontier.questions import KINDS, Entrant, ask
from studies.frontier.scenario import Scenario
from studies.frontier.school import Heard
from studies.frontier.tables import contests
from studies.frontier.task import APART, SEEN
from studies.frontier.tuned import needed, some, stacked
from studies.frontier.verdict import Contest, figures, on_either, on_picking, sheet, verdict
from tests.dery.assembly.test_forms import CONTRIBUTIONS
from tests.dery.conftest import PARAMS, bricks, images

__all__ = ["bricks", "images"]


@pytest.fixture(scope="module")
def seen(images: DataSet) -> DataSet:
    """More images that choose."""
    return replace(images, train=np.arange(4), validation=np.arange(4, 36), test=np.arange(36, 48))


@pytest.fixture(scope="module")
def calm(bricks: Bricks) -> Bricks:
    """Heads in closed form that do not tell noise apart, whose logits would be large."""
    return replace(bricks, head_shrinkage=1.0)


@pytest.fixture(scope="module")
def asked(calm: Bricks, seen: DataSet, tmp_path_factory: pytest.TempPathFactory) -> Field:
    changes = {"min_sources": 1, "rank_images": None, "treatment": "layers", "tails": 2, "trees": 1000}
    changes["combine"] = "mean"
    params = Assembly.model_validate({**PARAMS, **changes})
    problem = prices.assembly_problem(calm, params, Path("data/latency.json"))
    kept, heard = (Memo(tmp_path_factory.mktemp(name)) for name in ("kept", "heard"))
    return Field(calm, problem, seen, params, 0, kept, heard)


@pytest.fixture(scope="module")
def view(asked: Field, seen: DataSet) -> View:
    return View(asked, seen)


def test_budgets_go_from_the_smallest_network_to_the_sum_of_all_by_one_factor() -> None:
    found = budgets([300.0, 1000.0, 700.0], 5)
    assert (found[0], found[-1], len(found)) == (300, 2000, 5)
    factors = [b / a for a, b in zip(found, found[1:], strict=False)]
    assert factors == pytest.approx([(2000 / 300) ** 0.25] * 4, rel=0.01)
    assert all(limit == int(limit) for limit in found)


@pytest.fixture(scope="module")
def smaller(calm: Bricks, seen: DataSet, asked: Field) -> Pruned:
    """A network that MDA has cut."""
    found = _narrow(calm, seen)[0.5]
    return Pruned("resnet cut to 50%", *found, ask(found[0], found[1].input, asked.questions), True)


def _narrow(bricks: Bricks, seen: DataSet) -> dict[float, tuple[nn.Module, Component]]:
    how = Repair(images=len(bricks.fit[0].index))
    return narrowing.narrow(bricks, "resnet", bricks.chains[0]._model, [0.5], seen, CONTRIBUTIONS, how)


def _every(view: View) -> list[tuple[dict[Kind, float], torch.Tensor]]:
    """Cost and logits on the picking images of every chain, every pair of chains and every set of whole networks."""
    problem, bricks = view.field.problem, view.field.workshop.bricks
    paths = list(product(range(3), repeat=3))
    logits = {}
    for path in paths:
        network, recipe = reassemble(bricks, bricks.pick(path), "layers" if len(set(path)) > 1 else "none")
        logits[path] = view.measures.picking.logits(network, recipe.input)
    sets = [(path,) for path in paths] + list(combinations(paths, 2)) + [tuple((m,) * 3 for m in range(3))]
    return [
        (trees.price(problem, one), torch.stack([logits[path] for path in one]).mean(0))
        for one in sets
        if trees.may_join(problem, one)
    ]


def test_ours_is_the_best_of_all_chains_and_trees_within_the_limit(view: View) -> None:
    every, labels = _every(view), view.measures.picking.labels
    whole = [one.candidate.cost for one in view.whole]
    for kind in KINDS:
        for limit in budgets([own[kind] for own in whole], 4):
            ours = view.ours(kind, limit)
            assert ours.logits is not None
            assert cost(ours)[kind] <= limit
            best = max(built.judge(said, labels) for price, said in every if price[kind] <= limit)
            assert built.judge(ours.logits, labels) == pytest.approx(best, abs=1e-3)
    smallest = min(cost["params"] for cost in whole)
    assert title(view.ours("params", 1e9)) != title(view.ours("params", smallest))


def test_an_entrant_is_what_its_network_says_when_it_is_asked(view: View, seen: DataSet) -> None:
    ensemble = view.ensembles[0]
    said = torch.stack([one.choosing for one in view._alone if one.candidate.pick in ensemble.candidate.picks])
    stacked = replace(ensemble, stacked=stacking.stack(said, view.measures.choosing.labels, 1.0))
    for design in (view.designs[5], view.ours("params", 1e9), view.joiner.best(1)[0], ensemble, stacked):
        network, recipe = untrained.network(view.field, design)
        found = view.entrant(design)
        for accuracy, measure in ((found.validation, view.measures.validation), (found.test, view.measures.test)):
            assert accuracy == pytest.approx(measure(network, recipe.input))
        assert len(found.right) == len(seen.test)


@pytest.fixture(scope="module")
def answers(asked: Field, seen: DataSet, smaller: Pruned) -> Answers:
    return untrained.Comparison().answers({SEEN: View(asked, seen, [smaller])}, 3)


def test_cut_networks_may_be_stacked_and_are_in_our_pool_too(asked: Field, seen: DataSet, smaller: Pruned) -> None:
    stacking_too = copy(asked)
    stacking_too.params = asked.params.model_copy(update={"combine": "auto", "stacking_prior": 0.1, "trees": 2})
    labels, at = asked.questions.labels, asked.questions.at(built.measures(seen, asked.params, 0).choosing.index)
    mistaken = replace(smaller, said=smaller.said.clone())
    classes = smaller.said.shape[1]
    mistaken.said[at] += 9 * functional.one_hot(torch.from_numpy(labels[at] + 1) % classes, classes)
    view, better = View(stacking_too, seen, [smaller]), View(stacking_too, seen, [mistaken])
    plain, stacked = better.smaller
    assert (plain.stacked, title(stacked)) == (None, "resnet cut to 50%, stacked")
    assert stacked.stacked is not None
    network, recipe = untrained.network(asked, replace(stacked, of=smaller))
    said = ask(network, recipe.input, asked.questions)
    torch.testing.assert_close(said, stacked.stacked(smaller.said[None]), atol=1e-4, rtol=1e-4)
    assert np.array_equal(view.said(replace(stacked, of=smaller)), said.argmax(1).numpy())
    unchanged = ask(smaller.network, recipe.input, asked.questions)
    torch.testing.assert_close(unchanged, smaller.said)
    for kind, limit in zip(KINDS, (smaller.cost["params"], 1e9), strict=True):
        for one in (view, better):
            assert {title(choice) for choice in one.smaller} <= {title(choice) for choice in one.within(kind, limit)}
            assert one._worth(one.ours(kind, limit)) >= one._worth(one.stronger(kind, limit))
            assert one._worth(one.stronger(kind, limit)) >= max(map(one._worth, one.smaller))
    told = untrained.Comparison().answers({SEEN: better}, 2).networks.values()
    assert [(one.role, one.way) for one in told if one.name == title(plain)] == [("cut", None)]
    assert [one.way for one in told if one.name == title(stacked)] == [SEEN]
    assert {title(one) for one in better.rivals} <= {one.name for one in told if one.role in (*STRONGER, "ours")}


def test_what_was_answered_before_is_found_again(calm: Bricks, seen: DataSet, asked: Field) -> None:
    folder = asked._heard.folder
    assert folder is not None
    files = list(folder.iterdir())
    for file in files:
        os.utime(file, (0, 0))
    again = Field(calm, asked.entire, seen, asked.params, 0, asked.workshop.kept, asked._heard)
    assert 20 < len(files) <= len(asked.known)
    assert sorted(folder.iterdir()) == sorted(files)
    assert all(file.stat().st_mtime > 0 for file in files), "asked once more"
    assert all(torch.equal(one.said, other.said) for one, other in zip(again.known, asked.known, strict=True))


def test_narrow_last_blocks_are_ours_alone(calm: Bricks, seen: DataSet, asked: Field) -> None:
    """They are offered behind every front, say what their networks say, and no rival is drawn among them."""
    name, made = "resnet", _narrow(calm, seen)
    own = {(name, width): forms.opened(calm.cards[0], *one) for width, one in made.items()}
    bricks = replace(calm, narrow=own)
    bricks = replace(bricks, forms={name: forms.priced(bricks, name, Fronts(bricks, Memo()))})
    params = asked.params.model_copy(update={"combine": "auto", "trees": 2})
    field = Field(bricks, prices.assembly_problem(bricks, params, NOWHERE), seen, params, 0, Memo())
    narrow = [one for one in field.known if any(block.narrow for block in one.candidate.pick.blocks)]
    assert len(narrow) == 9 + 1
    assert all(one.candidate.pick.blocks[-1].form == "at 0.5" for one in narrow)
    assert all(block.form == "at 0.5" for block in narrow[-1].candidate.pick.blocks)
    assert len(field.known) == 27 + 9 + 1
    some = {name: tuple(one for one in bricks.forms[name] if one.set != 1)}
    fewer = widened(field.entire, replace(bricks, forms=some), params, NOWHERE)
    for problem, throughout in ((field.problem, [3]), (fewer, [])):
        assert [m for m in range(problem.choices) if is_narrow_throughout(problem, m)] == throughout
    view, plain = View(field, seen), field.entire
    for path in product(range(3), repeat=3):
        assert plain.price(path) == asked.problem.price(path) == field.problem.price(path)
    for one in (narrow[0], narrow[5], narrow[-1]):
        network, recipe = field.workshop.reassemble(one.candidate.pick, one.treatment)
        said = view.measures.picking.logits(network, recipe.input)
        torch.testing.assert_close(one.said[view._at(view.measures.picking)], said, atol=1e-4, rtol=1e-4)
        assert sum(p.numel() for p in network.parameters()) == one.candidate.cost["params"]
    limit = max(one.candidate.cost["params"] for one in view.whole)
    for design in (*view.drawn("params", limit), *view.whole, *view.ensembles):
        assert not any(block.narrow for pick in design.candidate.picks for block in pick.blocks)
    assert cost(view.ours("params", limit))["params"] <= limit
    assert cost(view.stronger("params", limit))["params"] <= limit


def test_rivals_are_within_the_limit_and_of_every_kind(view: View, answers: Answers, seen: DataSet) -> None:
    found = list(
        contests(
            answers.networks, answers.rounds[SEEN], view.field.questions, seen, UNTRAINED, view.measures.picking.index
        )
    )
    assert [one.kind for one in found] == ["params"] * 3 + ["macs"] * 3
    for one, choice in zip(found, answers.rounds[SEEN], strict=True):
        assert all(rival.cost[one.kind] <= one.limit for rival in (*one.rivals, one.ours))
        names = [rival.name for rival in one.rivals]
        drawn = view.drawn(one.kind, one.limit)
        assert len(drawn) == len(choice.drawn) == 2
        for design, number in zip(drawn, choice.drawn, strict=True):
            assert view.entrant(design).name == answers.networks[number].name
            assert answers.networks[number].name in names
        searched = [design for design in view.designs if design.candidate.cost[one.kind] <= one.limit]
        assert view.field.liked(drawn[1]) == max(map(view.field.liked, searched))
    assert {one.role for one in answers.networks.values()} >= {"whole", "ensemble", "cut", "drawn"}
    assert {"resnet cut to 50%", "resnet"} <= {rival.name for rival in found[2].rivals}
    assert sum(one.role == "ensemble" for one in answers.networks.values()) == 4


def test_what_is_tuned_is_chosen_again_on_all_validation_images(view: View, answers: Answers, seen: DataSet) -> None:
    wrong = {i: replace(one, said=np.full_like(one.said, 9)) for i, one in answers.networks.items()}
    ours = answers.rounds[SEEN][-1].ours
    labels = view.field.questions.labels
    wrong[ours] = replace(wrong[ours], said=labels)
    found = list(contests(wrong, answers.rounds[SEEN], view.field.questions, seen, FROZEN, view.measures.picking.index))
    for one in found:
        fits = answers.networks[ours].cost[one.kind] <= one.limit
        assert one.ours.test == (100 if fits else 0)


def test_answers_survive_the_disk(answers: Answers, tmp_path: Path) -> None:
    answers.save(tmp_path)
    found = Answers.load(tmp_path)
    assert found.rounds == answers.rounds
    for i, one in answers.networks.items():
        assert np.array_equal(found.networks[i].said, one.said)
        assert replace(found.networks[i], said=one.said) == one


def test_heads_that_are_fitted_after_learning_are_told_by_images_that_have_not_fitted_them() -> None:
    rng = torch.Generator().manual_seed(0)
    labels = torch.randint(4, (400,), generator=rng)
    right = torch.nn.functional.one_hot(labels, 4).float()
    noise = torch.randn(2, 400, 4, generator=rng)
    mistaken, choosing = Heard(right.roll(1, 1) + 0.3 * noise, True), np.arange(0, 400, 2)
    own, given = mistaken.logits[:, choosing], labels[choosing]
    said = mistaken.again(choosing, given, 5e-3, False)
    assert said is not None
    others = np.arange(1, 400, 2)
    assert np.array_equal(said[others], stacking.stack(own, given, 5e-3)(mistaken.logits).argmax(1).numpy()[others])
    assert np.array_equal(said[choosing], stacking.out_of_fold(own, given, 5e-3).argmax(1).numpy())
    assert (said == labels.numpy()).mean() > 0.8 > (mistaken.said == labels.numpy()).mean()
    assert mistaken.again(choosing, given, None, False) is None
    assert replace(mistaken, foldable=False).again(choosing, given, 5e-3, False) is None
    assert Heard(right[None], True).again(choosing, given, 5e-3, False) is None
    assert Heard(right[None], True).again(choosing, given, 5e-3, True) is not None
    cost: dict[Kind, float] = {"params": 1.0}
    roles: tuple[tuple[Role, str | None], ...]
    roles = (("whole", None), ("ours", SEEN), ("cut", None), ("distilled", None), ("scratch", None))
    networks = {i: (Answered(role, role, cost, np.empty(0), way), mistaken) for i, (role, way) in enumerate(roles)}
    found = stacked(networks, {SEEN: choosing, APART: others}, labels.numpy(), 5e-3)
    assert all(np.array_equal(found[i].said, mistaken.said) for i in range(5))
    told = [(one.role, one.name, one.way, one.fitted) for i, one in found.items() if i > 4]
    assert told == [
        *(("stacked", "whole, stacked", way, False) for way in (SEEN, APART)),
        ("again", "ours, again", SEEN, True),
        *(("stacked", "cut, stacked", way, False) for way in (SEEN, APART)),
        *(("restacked", f"{name}, stacked", way, False) for name in ("distilled", "scratch") for way in (SEEN, APART)),
    ]
    unfitted: dict[int, tuple[Answered, Heard]]
    unfitted = {0: (Answered("ours", "ours", cost, np.empty(0), chosen=(APART,)), mistaken)}
    found = stacked(unfitted, {SEEN: choosing, APART: others}, labels.numpy(), 5e-3)
    assert [(one.way, one.chosen) for one in found.values()] == [(None, (APART,)), (APART, (APART,))]
    assert not found[1].stands(SEEN)


def test_what_test_images_chose_has_no_place_where_others_choose(view: View, answers: Answers, seen: DataSet) -> None:
    own = answers.rounds[SEEN]
    i = own[-1].ours
    assert choosers({SEEN: own, APART: own[:1]}, i) == (SEEN,)
    scratch = Answered("from scratch", "scratch", answers.networks[0].cost, view.field.questions.labels, chosen=(SEEN,))
    networks = {i: replace(one, chosen=None) for i, one in answers.networks.items()}
    networks |= {99: scratch, 98: replace(scratch, role="restacked", way=SEEN)}
    for way, there in ((SEEN, True), (APART, False)):
        found = list(contests(networks, own, view.field.questions, seen, FROZEN, view.measures.picking.index, way))
        assert all(("from scratch" in {rival.name for rival in one.stronger}) == there for one in found[2:3])
    assert all(one.chosen == (SEEN,) for one in answers.networks.values() if one.role == "ours")


def test_everything_learns_at_budgets_that_are_evenly_spaced_up_to_the_largest(answers: Answers) -> None:
    rounds = [Round(kind, limit, limit, ()) for kind in KINDS for limit in range(20)]
    assert [one.limit for one in some(rounds, 5)] == [3, 7, 11, 15, 19] * 2
    assert [one.limit for one in some(rounds, 1)] == [19, 19]
    assert some(rounds, 20) == rounds
    last = some(answers.rounds[SEEN], 1)
    found = {i: answers.networks[i] for i in needed(answers.networks, {SEEN: last})}
    assert {one.ours for one in last} <= set(found)
    assert all(one.role not in ("ours", "drawn") for i, one in found.items() if i not in _named(last))


def _named(rounds: Sequence[Round]) -> set[int]:
    return {i for one in rounds for i in (one.ours, *one.drawn)}


def _contest(rng: np.random.Generator, ours: float, rivals: Sequence[float]) -> Contest:
    def entrant(share: float) -> Entrant:
        return Entrant("n", {"params": 1}, 100 * share, 100 - 100 * share, rng.random(2000) < share)

    return Contest("params", 1, entrant(ours), tuple(map(entrant, rivals)))


def test_what_has_fitted_labels_is_taken_where_it_is_ahead_on_the_others() -> None:
    def entrant(validation: float, picking: float, fitted: bool) -> Entrant:
        return Entrant("n", {"params": 1}, validation, picking, np.ones(1, bool), fitted)

    plain = entrant(60, 50, False), entrant(55, 58, False)
    behind, ahead = entrant(99, 49, True), entrant(40, 51, True)
    assert on_either([*plain, behind]) is plain[0]
    assert on_either([*plain, entrant(99, 50, True)]) is plain[0]
    assert on_either([*plain, behind, ahead]) is ahead
    assert on_either([behind, ahead]) is ahead
    assert on_either(plain) is plain[0]


def test_who_wins_is_as_defined() -> None:
    rng = np.random.default_rng(0)
    given = [_contest(rng, ours, (0.5, 0.6, 0.4)) for ours in (0.6, 0.65, 0.9, 0.55, 0.63)]
    found = [verdict(one, 0) for one in given]
    for one, contest in zip(found, given, strict=True):
        assert one.rival is contest.rivals[1]
        assert one.oracle.test == max(rival.test for rival in contest.rivals)
        assert one.won == (difference(contest.ours.right, one.rival.right, 0).low > 0)
    assert verdict(given[0], 0, on_picking).rival is given[0].rivals[2]
    told = figures(found)
    margins = [one.contest.ours.test - one.rival.test for one in found]
    assert told["won"] == sum(one.won for one in found) >= told["won_after_holm"] >= 1
    assert told["worst_regret_points"] == pytest.approx(-min(margins))
    assert told["mean_margin_points"] == pytest.approx(np.mean(margins))
    marks = [row[5].count("*") for row in sheet("t", found).rows]
    assert (sum(mark > 0 for mark in marks), marks.count(2)) == (told["won"], told["won_after_holm"])


def test_holm_is_the_closed_test_of_all_intersections() -> None:
    """A hypothesis falls if every set of hypotheses that it is in holds one with a chance of level / size at most."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        chances = list(rng.random(5) ** 4)
        sets = [some for size in range(1, 6) for some in combinations(range(5), size)]
        falls = {some: min(chances[i] for i in some) <= 0.05 / len(some) for some in sets}
        assert holm(chances) == [all(falls[some] for some in sets if i in some) for i in range(5)]


def test_the_sign_test_counts_images_on_which_one_alone_is_right() -> None:
    ours, theirs = np.array([True] * 9 + [False] * 3 + [True] * 5), np.array([False] * 9 + [True] * 8)
    assert sign_test(ours, theirs) == pytest.approx(binomtest(9, 12).pvalue)
    assert sign_test(ours, ours) == 1


def test_conditions_are_drawn_by_seed_equally_often_and_change_images(images: DataSet) -> None:
    scenario = Scenario.model_validate(
        {"networks": ["a", "b"], "conditions": ["sharp", "grey"], "train_images": 8, "learns": {"a": ["compressed"]}}
    )
    found, again, other = (task.task(images, scenario, seed) for seed in (0, 0, 1))
    pixels = [np.stack([np.asarray(one.images.image(i)) for i in range(48)]) for one in (images, found, again, other)]
    assert np.array_equal(pixels[1], pixels[2])
    grey = np.array([(image == image[..., :1]).all() for image in pixels[1]])
    assert 12 <= grey.sum() <= 36
    assert np.array_equal(pixels[1][~grey], pixels[0][~grey])
    assert not np.array_equal(pixels[1], pixels[3])
    assert len({one.images.checksum for one in (images, found, other)}) == 3
    lesson = task.lesson(images, scenario, "a", 0)
    assert len(lesson.train) == 8
    assert not np.array_equal(np.asarray(lesson.images.image(0)), pixels[0][0])
    divided = task.apart(images, 2, 0)
    assert sorted([*divided.validation, *divided.test]) == sorted(images.test)
