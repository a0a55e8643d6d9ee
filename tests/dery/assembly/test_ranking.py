"""Re-ranking of a pool by each proxy, and the controls."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lib.dery.assembly import built, controls, gains, listing, prices, proxies, ranking
from lib.dery.assembly.built import Built, Design, Measures
from lib.dery.assembly.material import Bricks
from lib.dery.assembly.paper_search import paper_search
from lib.dery.assembly.proxies.naswot import naswot
from lib.dery.assembly.ranking import PROXIES, Ranked, key
from lib.dery.assembly.reassembly import reassemble
from lib.dery.assembly.workshop import Workshop
from lib.dery.paths import search, trees
from lib.dery.paths.problem import AssemblyProblem, Candidate
from lib.dery.paths.propose import propose
from lib.images.data import DataSet
from lib.network.blocks import Pick
from lib.params.assembly import Assembly
from lib.training.fit import accuracy
from tests.dery.assembly.test_gains import known

Params = Callable[..., Assembly]


@pytest.fixture(scope="module")
def problem(bricks: Bricks) -> AssemblyProblem:
    budget = {"params": None, "macs": None}
    counts = dict.fromkeys(("pool", "head_images", "rank_images", "random_assemblies", "batch_size"), 16)
    params = Assembly.model_validate({"budget": budget, "min_sources": 2, **counts})
    found = prices.assembly_problem(bricks, params, Path("data/latency.json"))
    return replace(found, scores=gains.scores(known(bricks), params, None, Path()))


@pytest.fixture
def measures(images: DataSet, params: Params) -> Measures:
    return built.measures(images, params(), 0)


def designs(problem: AssemblyProblem, count: int) -> list[Design]:
    """The best candidates by predicted score."""
    return [Design(candidate, ("layers",)) for candidate in search.best(problem, count).candidates]


def test_every_proxy_is_a_module() -> None:
    assert set(PROXIES) == {file.stem for file in Path(proxies.__file__).parent.glob("*.py")} - {"__init__"}


@pytest.mark.parametrize("by", PROXIES)
def test_a_pool_is_ranked_by_any_proxy(bricks: Bricks, problem: AssemblyProblem, measures: Measures, by: str) -> None:
    pool = designs(problem, 4)
    ranked = ranking.rank(Workshop(bricks, 2**30), pool, by, 2, measures, ())
    assert {r.candidate.pick for r in ranked} == {d.candidate.pick for d in pool}
    keys = [key(PROXIES[by], r.values[by]) for r in ranked]
    assert keys == sorted(keys, reverse=True)
    assert [r.made is not None for r in ranked] == [True, True, False, False]
    if by in ("params", "macs"):
        values = [r.candidate.cost[by] for r in ranked]
        assert values == sorted(values)  # less is better


def test_proxies_are_those_of_the_network(bricks: Bricks, problem: AssemblyProblem, measures: Measures) -> None:
    (design,) = designs(problem, 1)
    ranked = ranking.rank(Workshop(bricks, 2**30), [design], "accuracy", 1, measures)[0]
    network, recipe = reassemble(bricks, design.candidate.pick, "layers")
    loader = measures.probes.images(recipe.input)
    assert ranked.values["naswot"] == naswot(network, (x for x, _ in loader))
    assert [len(x) for x, _ in loader] == [32, 8]  # no more than there are
    assert ranked.values["accuracy"] == accuracy(network, measures.picking.images(recipe.input))
    logits = torch.cat([network(x) for x, _ in measures.picking.images(recipe.input)]).detach().double()
    labels = torch.cat([y for _, y in measures.picking.images(recipe.input)])
    by_hand = [float(row[y] - row.exp().sum().log()) for row, y in zip(logits, labels, strict=True)]
    assert ranked.values["likelihood"] == pytest.approx(np.mean(by_hand))
    assert ranked.values["score"] == design.candidate.score
    assert measures.picking.images(recipe.input) is measures.picking.images(recipe.input)


def test_equal_accuracies_are_told_apart_by_likelihood_then_by_score(
    bricks: Bricks, problem: AssemblyProblem, measures: Measures, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = designs(problem, 4)
    answers = dict(
        zip((d.candidate.pick for d in pool), [(90.0, -0.4), (90.0, -0.3), (80.0, -0.1), (90.0, -0.4)], strict=True)
    )
    monkeypatch.setattr(ranking.Built, "_judged", property(lambda made: answers[made.candidate.pick]))
    ranked = ranking.rank(Workshop(bricks, 2**30), pool, "accuracy", 1, measures, ())
    assert [r.candidate.pick for r in ranked] == [pool[i].candidate.pick for i in (1, 0, 3, 2)]


def test_known_logits_are_those_of_the_network(bricks: Bricks, problem: AssemblyProblem, measures: Measures) -> None:
    """A design that has them is not run on the picking images again, and is judged by them."""
    workshop, (design,) = Workshop(bricks, 2**30), designs(problem, 1)
    network, recipe = ranking.put_together(workshop, design)
    said = measures.picking.logits(network, recipe.input)
    known, other = replace(design, logits=said), replace(design, logits=said.flip(1))
    made = [Built(one, network, recipe, measures) for one in (design, known, other)]
    assert [made[0].accuracy(), made[0].likelihood()] == [made[1].accuracy(), made[1].likelihood()]
    assert made[2].likelihood() != made[0].likelihood()


def test_images_of_the_ranking(images: DataSet, params: Params) -> None:
    """Halves of the labelled images, class by class; with one image of a class, the same for both."""
    few = built.measures(images, params(), 0)
    assert few.choosing.index.tolist() == few.picking.index.tolist() == images.validation.tolist()
    for count in (None, 16):
        found = built.measures(images, params(rank_on="train", rank_images=count), 0)
        halves = [set(half.index.tolist()) for half in (found.choosing, found.picking)]
        assert not halves[0] & halves[1]
        assert halves[0] | halves[1] <= set(images.train.tolist())
        assert len(halves[0] | halves[1]) == (count or 40)
        for half in (found.choosing, found.picking):
            counts = np.bincount(images.labels[half.index]).tolist()
            assert counts == [(count or 40) // 8] * 4
        again = built.measures(images, params(rank_on="train", rank_images=count), 0)
        assert again.choosing.index.tolist() == found.choosing.index.tolist()
        other = built.measures(images, params(rank_on="train", rank_images=count), 1)
        assert other.choosing.index.tolist() != found.choosing.index.tolist()


def test_agreement_is_in_the_direction_that_a_proxy_calls_better(problem: AssemblyProblem) -> None:
    values = [(90.0, 3.0, 10.0), (80.0, 2.0, 20.0), (70.0, None, 30.0)]
    rest = {"likelihood": -0.5, "synflow": 1.0, "macs": 5.0, "score": -1.0}
    ranked = [
        Ranked(d, {"accuracy": a, "naswot": n, "params": p, **rest})
        for d, (a, n, p) in zip(designs(problem, 3), values, strict=True)
    ]
    taus = ranking.agreements(ranked)
    assert taus == {"likelihood": None, "naswot": 1.0, "synflow": None, "params": 1.0, "macs": None, "score": None}


def test_the_papers_search_takes_what_naswot_likes_best_of_all_that_it_sees(
    bricks: Bricks, problem: AssemblyProblem, measures: Measures, params: Params
) -> None:
    problem, asked = replace(problem, excluded=frozenset({1})), params(treatment="layers")
    every = search.best(problem, 100).candidates
    liked = {
        one.pick: naswot(reassemble(bricks, one.pick)[0], (x for x, _ in measures.probes.images(bricks.cards[0].input)))
        for one in every
    }
    found = paper_search(Workshop(bricks, 2**30), problem, 100, asked, measures, 0)
    best = max(every, key=lambda one: liked[one.pick] or 0)
    assert found["candidates"] == len(every) == 6
    network, recipe = reassemble(bricks, best.pick)
    assert found["blocks"] == recipe.words
    assert found["test"] == measures.test(network, recipe.input)
    assert {kind: found[kind] for kind in best.cost} == best.cost
    nothing = replace(problem, limits={"params": 1})
    assert paper_search(Workshop(bricks, 2**30), nothing, 9, asked, measures, 0) == {"candidates": 0}


def test_controls_and_tables(
    bricks: Bricks, problem: AssemblyProblem, measures: Measures, params: Params, tmp_path: Path
) -> None:
    drawn = [Candidate.of(problem, path) for path in ((0, 0, 1), (1, 1, 2), (2, 0, 0))]
    asked = params(treatment="layers")
    found = controls.random_controls(Workshop(bricks, 2**30), drawn, problem, asked, measures)
    assert found["random_assembly"]["count"] == 2
    liked = [
        naswot(reassemble(bricks, one.pick, "layers")[0], (x for x, _ in measures.probes.images(bricks.cards[0].input)))
        for one in drawn
    ]
    best = drawn[max(range(3), key=lambda i: liked[i] or 0)]
    assert found["random_search"]["candidates"] == 3
    assert found["random_search"]["params"] == best.cost["params"]
    none = controls.random_controls(Workshop(bricks, 2**30), [], problem, asked, measures)
    assert none == {"random_assembly": {"count": 0}, "random_search": {"candidates": 0}}

    zoo = controls.zoo_control(bricks, problem, [1, 2], measures)
    assert set(zoo["models"]) == {"resnet", "vit", "plain"}
    assert zoo["best_within_budget"]["model"] in ("vit", "plain")  # resnet may not lend
    assert (
        controls.zoo_control(bricks, replace(problem, limits={"params": 1}), [0, 1, 2], measures)["best_within_budget"]
        is None
    )

    proposal = propose(replace(problem, limits={"macs": 10**9}), 4, 1)
    pool = [Design(candidate, ("layers",)) for candidate in proposal.pool.candidates]
    ranked = ranking.rank(Workshop(bricks, 2**30), pool, "accuracy", 1, measures)
    saved = controls.save(tmp_path, bricks, ranked[:1], zoo["best_within_budget"], measures)
    assert (tmp_path / "r1" / "recipe.json").is_file()
    assert (tmp_path / "r1" / "zoo" / "recipe.json").is_file()
    assert saved["r1"]["params"] == ranked[0].candidate.cost["params"]
    report = listing.report(proposal, ranked, problem, asked)
    assert report["treatment"] == "layers"
    assert all((row["treatments"], row["weights"]) == (["layers"], [1.0]) for row in report["candidates"])
    assert [Pick.from_dict(row["pick"]) for row in report["candidates"]] == [r.candidate.pick for r in ranked]
    assert len(ranked) == 4
    assert set(report["pareto"]) == {"params", "macs", "memory"}
    for kind, front in proposal.fronts.items():
        stored = report["pareto"][kind]
        assert [Pick.from_dict(point["pick"]) for point in stored] == [c.pick for c in front]
        assert [point["cost"] for point in stored] == [c.cost[kind] for c in front]
    assert listing.proxies(ranked).shape == (4, 2 + len(PROXIES))
    table = listing.pareto(proposal.fronts, problem)
    assert table["cost"].tolist() == [row[row["budget"]] for row in table.to_dict("records")]


def test_random_candidates_are_treated_as_well_as_ours(
    bricks: Bricks, problem: AssemblyProblem, images: DataSet, params: Params
) -> None:
    """Each by the treatment that the choosing images find best for it."""
    asked = params(rank_on="train", random_assemblies=3, combine="mean")
    measures, workshop = built.measures(images, asked, 0), Workshop(bricks, 2**30)
    drawn = [Candidate.of(problem, path) for path in ((0, 0, 1), (1, 1, 0), (2, 0, 0))]
    found = controls.random_controls(workshop, drawn, problem, asked, measures)
    expected = []
    for one in drawn:
        made = [reassemble(bricks, one.pick, how) for how in asked.treatments]
        judged = [built.judge(measures.choosing.logits(*own(pair)), measures.choosing.labels) for pair in made]
        expected.append(measures.test.scores(*own(made[judged.index(max(judged))])).accuracy)
    assert found["random_assembly"]["mean"] == pytest.approx(np.mean(expected))
    assert found["random_assembly"]["max"] == max(expected)


def own(made: Any) -> Any:
    """A network and what it expects."""
    return made[0], made[1].input


def test_the_best_ensemble_within_the_budget(
    bricks: Bricks, problem: AssemblyProblem, images: DataSet, params: Params
) -> None:
    """Of all pairs and the three of them, by the mean of their logits on the choosing images, then on the others."""
    asked = params(rank_on="train", tails=3, trees=2)
    measures, workshop = built.measures(images, asked, 0), Workshop(bricks, 2**30)
    whole = [reassemble(bricks, bricks.whole(m), "none")[0] for m in range(3)]
    expected = bricks.cards[0].input
    said = [[half.logits(one, expected) for one in whole] for half in (measures.choosing, measures.picking)]

    def judged(half: int, some: tuple[int, ...]) -> tuple[float, float]:
        labels = (measures.choosing, measures.picking)[half].labels
        return built.judge(torch.stack([said[half][m] for m in some]).mean(0), labels)

    sets = [(0, 1), (0, 2), (1, 2), (0, 1, 2)]
    pair = sum(bricks.chains[m].total.params for m in (0, 1))
    for limits, lenders in (({}, [0, 1, 2]), ({}, [0, 2]), ({"params": pair}, [0, 1, 2])):
        limited = replace(problem, limits=limits)
        costs = {some: sum(limited.price((m,) * 3)["params"] for m in some) for some in sets}
        within = [one for one in sets if set(one) <= set(lenders) and costs[one] <= limits.get("params", 10**9)]
        assert within
        best = sorted(within, key=lambda one: judged(0, one), reverse=True)[:2]
        chosen = max(best, key=lambda one: judged(1, one)[0])
        control = controls.ensemble_control(workshop, limited, lenders, asked, measures)
        assert control is not None
        assert control["models"] == [bricks.cards[m].name for m in chosen]
        assert control["params"] == costs[chosen]
        network = ranking.put_together(workshop, _ensemble(limited, chosen))[0]
        assert control["test"] == measures.test(network, expected)
    for none in (replace(problem, limits={"params": 1}), problem):
        lenders = [0] if none is problem else [0, 1, 2]
        assert controls.ensemble_control(workshop, none, lenders, asked, measures) is None


@pytest.mark.parametrize(
    "rules",
    [
        {"required_blocks": frozenset({(0, 1)})},
        {"excluded_blocks": frozenset({(1, 0), (2, 2)})},
        {"required": frozenset({1})},
        {"at_least": {"params": 10**6}},
        {"min_sources": 3, "max_sources": 3},
        {"max_sources": 1},
    ],
    ids=str,
)
def test_the_best_ensemble_is_free_of_the_rules_of_the_pool(
    bricks: Bricks, problem: AssemblyProblem, images: DataSet, params: Params, rules: dict[str, Any]
) -> None:
    """The same without them: the pair that the choosing images like best, which none of these rules admits."""
    asked = params(rank_on="train", tails=2, trees=1)
    measures, workshop = built.measures(images, asked, 0), Workshop(bricks, 2**30)
    free = replace(problem, min_sources=1)
    control = controls.ensemble_control(workshop, free, [0, 2], asked, measures)
    assert control is not None
    assert control["models"] == ["resnet", "plain"]
    ruled = replace(free, **rules)
    assert not trees.feasible(ruled, [(0, 0, 0), (2, 2, 2)])
    assert controls.ensemble_control(workshop, ruled, [0, 2], asked, measures) == control


def _ensemble(problem: AssemblyProblem, networks: tuple[int, ...]) -> Design:
    first, *others = (Candidate.of(problem, (m,) * 3) for m in networks)
    candidate = replace(first, others=tuple(one.pick for one in others))
    return Design(candidate, ("none",) * len(networks), (1 / len(networks),) * len(networks))
