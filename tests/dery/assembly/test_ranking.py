"""Re-ranking of a pool by each proxy, and the controls."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lib.dery.assembly import built, controls, gains, listing, prices, proxies, ranking
from lib.dery.assembly.built import Measures
from lib.dery.assembly.material import Bricks
from lib.dery.assembly.paper_search import paper_search
from lib.dery.assembly.proxies.naswot import naswot
from lib.dery.assembly.ranking import PROXIES, Ranked, key
from lib.dery.assembly.reassembly import Workshop, reassemble
from lib.dery.paths import search
from lib.dery.paths.problem import AssemblyProblem, Candidate
from lib.dery.paths.propose import propose
from lib.images.data import DataSet
from lib.network.blocks import Pick
from lib.params.assembly import Assembly
from lib.training.fit import accuracy
from tests.dery.assembly.test_gains import cut

Params = Callable[..., Assembly]


@pytest.fixture(scope="module")
def problem(bricks: Bricks) -> AssemblyProblem:
    budget = {"params": None, "macs": None}
    counts = dict.fromkeys(("pool", "head_images", "rank_images", "random_assemblies", "batch_size"), 16)
    params = Assembly.model_validate({"budget": budget, "min_sources": 2, "ridge": 1e-4, **counts})
    found = prices.assembly_problem(bricks, params, Path("data/latency.json"))
    return replace(found, scores=gains.scores(bricks, params, cut(bricks), Path(), range(3)))


@pytest.fixture
def measures(images: DataSet, params: Params) -> Measures:
    return built.measures(images, params(), 0)


def test_every_proxy_is_a_module() -> None:
    assert set(PROXIES) == {file.stem for file in Path(proxies.__file__).parent.glob("*.py")} - {"__init__"}


@pytest.mark.parametrize("by", PROXIES)
def test_a_pool_is_ranked_by_any_proxy(bricks: Bricks, problem: AssemblyProblem, measures: Measures, by: str) -> None:
    pool = search.best(problem, 4).candidates
    ranked = ranking.rank(Workshop(bricks, 2**30), pool, by, 2, measures)
    assert {r.candidate.pick for r in ranked} == {c.pick for c in pool}
    keys = [key(PROXIES[by], r.values[by]) for r in ranked]
    assert keys == sorted(keys, reverse=True)
    assert [r.made is not None for r in ranked] == [True, True, False, False]
    if by in ("params", "macs"):
        values = [r.candidate.cost[by] for r in ranked]
        assert values == sorted(values)  # less is better


def test_proxies_are_those_of_the_network(bricks: Bricks, problem: AssemblyProblem, measures: Measures) -> None:
    candidate = search.best(problem, 1).candidates[0]
    ranked = ranking.rank(Workshop(bricks, 2**30), [candidate], "accuracy", 1, measures)[0]
    network, recipe = reassemble(bricks, candidate.pick)
    loader = measures.probes.images(recipe.input)
    assert ranked.values["naswot"] == naswot(network, (x for x, _ in loader))
    assert [len(x) for x, _ in loader] == [32, 8]  # no more than there are
    assert ranked.values["accuracy"] == accuracy(network, measures.ranking.images(recipe.input))
    logits = torch.cat([network(x) for x, _ in measures.ranking.images(recipe.input)]).detach().double()
    labels = torch.cat([y for _, y in measures.ranking.images(recipe.input)])
    by_hand = [float(row[y] - row.exp().sum().log()) for row, y in zip(logits, labels, strict=True)]
    assert ranked.values["likelihood"] == pytest.approx(np.mean(by_hand))
    assert ranked.values["score"] == candidate.score
    assert measures.ranking.images(recipe.input) is measures.ranking.images(recipe.input)


def test_equal_accuracies_are_told_apart_by_likelihood_then_by_score(
    bricks: Bricks, problem: AssemblyProblem, measures: Measures, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = search.best(problem, 4).candidates
    answers = dict(zip((c.pick for c in pool), [(90.0, -0.4), (90.0, -0.3), (80.0, -0.1), (90.0, -0.4)], strict=True))
    monkeypatch.setattr(ranking.Built, "_judged", property(lambda made: answers[made.candidate.pick]))
    ranked = ranking.rank(Workshop(bricks, 2**30), pool, "accuracy", 1, measures)
    assert [r.candidate.pick for r in ranked] == [pool[i].pick for i in (1, 0, 3, 2)]


def test_images_of_the_ranking(images: DataSet, params: Params) -> None:
    assert built.measures(images, params(), 0).ranking.index.tolist() == images.validation.tolist()
    few = built.measures(images, params(rank_on="train", rank_images=8), 0).ranking.index
    assert len(few) == 8
    assert set(few.tolist()) <= set(images.train.tolist())


def test_agreement_is_in_the_direction_that_a_proxy_calls_better(problem: AssemblyProblem) -> None:
    pool = search.best(problem, 3).candidates
    values = [(90.0, 3.0, 10.0), (80.0, 2.0, 20.0), (70.0, None, 30.0)]
    rest = {"likelihood": -0.5, "synflow": 1.0, "macs": 5.0, "score": -1.0}
    ranked = [
        Ranked(c, {"accuracy": a, "naswot": n, "params": p, **rest}) for c, (a, n, p) in zip(pool, values, strict=True)
    ]
    taus = ranking.agreements(ranked)
    assert taus == {"likelihood": None, "naswot": 1.0, "synflow": None, "params": 1.0, "macs": None, "score": None}


def test_the_papers_search_takes_what_naswot_likes_best_of_all_that_it_sees(
    bricks: Bricks, problem: AssemblyProblem, measures: Measures
) -> None:
    problem = replace(problem, excluded=frozenset({1}))
    every = search.best(problem, 100).candidates
    liked = {
        one.pick: naswot(reassemble(bricks, one.pick)[0], (x for x, _ in measures.probes.images(bricks.cards[0].input)))
        for one in every
    }
    found = paper_search(Workshop(bricks, 2**30), problem, 100, measures, 0)
    best = max(every, key=lambda one: liked[one.pick] or 0)
    assert found["candidates"] == len(every) == 6
    network, recipe = reassemble(bricks, best.pick)
    assert found["blocks"] == recipe.words
    assert found["test"] == measures.test(network, recipe.input)
    assert {kind: found[kind] for kind in best.cost} == best.cost
    assert paper_search(Workshop(bricks, 2**30), replace(problem, limits={"params": 1}), 9, measures, 0) == {
        "candidates": 0
    }


def test_controls_and_tables(
    bricks: Bricks, problem: AssemblyProblem, measures: Measures, params: Params, tmp_path: Path
) -> None:
    drawn = [Candidate.of(problem, path) for path in ((0, 0, 1), (1, 1, 2), (2, 0, 0))]
    found = controls.random_controls(Workshop(bricks, 2**30), drawn, problem.limits, params(), measures)
    assert found["random_assembly"]["count"] == 2
    liked = [
        naswot(reassemble(bricks, one.pick)[0], (x for x, _ in measures.probes.images(bricks.cards[0].input)))
        for one in drawn
    ]
    best = drawn[max(range(3), key=lambda i: liked[i] or 0)]
    assert found["random_search"]["candidates"] == 3
    assert found["random_search"]["params"] == best.cost["params"]
    none = controls.random_controls(Workshop(bricks, 2**30), [], problem.limits, params(), measures)
    assert none == {"random_assembly": {"count": 0}, "random_search": {"candidates": 0}}

    zoo = controls.zoo_control(bricks, problem, [1, 2], measures)
    assert set(zoo["models"]) == {"resnet", "vit", "plain"}
    assert zoo["best_within_budget"]["model"] in ("vit", "plain")  # resnet may not lend
    assert (
        controls.zoo_control(bricks, replace(problem, limits={"params": 1}), [0, 1, 2], measures)["best_within_budget"]
        is None
    )

    proposal = propose(replace(problem, limits={"macs": 10**9}), 4, 1)
    ranked = ranking.rank(Workshop(bricks, 2**30), proposal.pool.candidates, "accuracy", 1, measures)
    saved = controls.save(tmp_path, bricks, ranked[:1], zoo["best_within_budget"], measures)
    assert (tmp_path / "r1" / "recipe.json").is_file()
    assert (tmp_path / "r1" / "zoo" / "recipe.json").is_file()
    assert saved["r1"]["params"] == ranked[0].candidate.cost["params"]
    report = listing.report(proposal, ranked, problem, params())
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
