"""What each budget buys: as a search under that limit finds it, measured as the network that is put together."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from lib.base.errors import BrickyardError
from lib.dery.assembly import built, gains, joining, prices, ranking, sweeping
from lib.dery.assembly.built import Measures
from lib.dery.assembly.joining import Joiner
from lib.dery.assembly.material import Bricks
from lib.dery.assembly.reassembly import reassemble
from lib.dery.assembly.sweeping import Step
from lib.dery.assembly.workshop import Workshop
from lib.dery.paths import search, trees
from lib.dery.paths.problem import AssemblyProblem
from lib.dery.paths.tables import Kind, Table
from lib.images.data import DataSet
from lib.params.assembly import Assembly
from tests.dery.assembly.test_gains import known

SERIES: dict[Kind, int] = {"params": 4, "macs": 3, "memory": 3}


@pytest.fixture(scope="module")
def asked() -> Assembly:
    """Both treatments of blocks without refitting, so that one of them has to be chosen."""
    counts = {"pool": 3, "head_images": 40, "random_assemblies": 2, "batch_size": 16, "tails": 2}
    budget = {"params": None, "macs": None}
    return Assembly.model_validate({"budget": budget, "min_sources": 2, "rank_on": "train", **counts})


@pytest.fixture(scope="module")
def problem(bricks: Bricks, asked: Assembly) -> AssemblyProblem:
    found = prices.assembly_problem(bricks, asked, Path("data/latency.json"))
    return replace(found, scores=gains.scores(known(bricks), asked, None, Path()))


@pytest.fixture(scope="module")
def measures(images: DataSet, asked: Assembly) -> Measures:
    """Without test images: whoever looks at them fails."""
    return replace(built.measures(images, asked, 0), test=cast(Any, None))


@pytest.fixture(scope="module")
def workshop(bricks: Bricks) -> Workshop:
    return Workshop(bricks, 2**30)


@pytest.fixture(scope="module")
def steps(workshop: Workshop, problem: AssemblyProblem, asked: Assembly, measures: Measures) -> list[Step]:
    series: dict[Kind, list[float]] = {
        kind: sweeping.limits(problem, kind, count, [0, 1, 2], 2) for kind, count in SERIES.items()
    }
    return sweeping.swept(workshop, problem, [0, 1, 2], series, asked, measures)


@pytest.mark.parametrize("kind", SERIES)
def test_limits_go_from_what_is_needed_at_least_to_whole_networks_side_by_side(
    problem: AssemblyProblem, kind: Kind
) -> None:
    found = sweeping.limits(problem, kind, 5, [0, 1, 2], 2)
    costs = [one.cost[kind] for one in search.best(problem, 1000).candidates]
    whole = sorted(((m,) * 3 for m in range(3)), key=lambda path: problem.cost(path, kind))
    assert found[0] == min(costs)
    assert found[-1] == trees.price(problem, whole[1:])[kind]
    steps = np.diff(np.log(found))
    np.testing.assert_allclose(steps, steps.mean(), rtol=1e-2)
    assert sweeping.limits(problem, kind, 1, [0, 1, 2], 2) == found[-1:]


def test_milliseconds_are_rounded_up(problem: AssemblyProblem) -> None:
    """To a thousandth, so that what needs least is within the first limit."""
    macs = problem.costs["macs"]
    took = replace(problem, costs={**problem.costs, "latency": Table(macs.blocks / 7e5, macs.stitches / 7e5)})
    found = sweeping.limits(took, "latency", 4, [0, 1, 2], 2)
    least = min(one.cost["latency"] for one in search.best(took, 1000).candidates)
    assert 0 <= found[0] - least < 1e-3
    assert [round(limit, 3) for limit in found] == found
    assert search.best(replace(took, limits={"latency": found[0]}), 1).candidates


def test_every_limit_buys_what_a_search_under_it_finds(
    steps: Sequence[Step], problem: AssemblyProblem, workshop: Workshop, asked: Assembly, measures: Measures
) -> None:
    """The chain by predicted score; the tree and the whole network by the choosing images, among all that was made."""
    assert "tree" not in steps[0].bought
    assert {form for step in steps for form in step.bought} == {"chain", "tree", "whole"}
    limited = {(step.kind, step.limit): replace(problem, limits={step.kind: step.limit}) for step in steps}
    best = {key: search.best(one, 1).candidates[0] for key, one in limited.items()}
    picks = list({one.pick: one for one in best.values()}.values())
    members = joining.members(workshop, problem, picks, asked.treatments, measures)
    whole = joining.members(workshop, problem, joining.whole(problem, [0, 1, 2]), ("none",), measures)
    joiner = Joiner(problem, members + whole, measures, 2)
    for step in steps:
        assert step.bought["chain"].candidate == best[step.kind, step.limit]
        alone = [one for one in whole if one.candidate.cost[step.kind] <= step.limit]
        right = [built.judge(one.choosing, measures.choosing.labels) for one in alone]
        assert ("whole" in step.bought) == bool(alone)
        if alone:
            assert step.bought["whole"].candidate == alone[right.index(max(right))].candidate
        joined = joiner.best(1, {step.kind: step.limit})
        assert [step.bought["tree"].candidate] == [joined[0].candidate] if joined else "tree" not in step.bought


def test_rows_are_what_the_networks_answer(steps: Sequence[Step], bricks: Bricks, measures: Measures) -> None:
    """Put together anew, on the images that chose nothing; the front by its definition."""
    workshop = Workshop(bricks, 2**30)
    for kind in SERIES:
        own = [step for step in steps if step.kind == kind]
        rows = sweeping.rows(own, measures)
        designs = [design for step in own for design in step.bought.values()]
        for row, design in zip(rows, designs, strict=True):
            network, recipe = ranking.put_together(workshop, design)
            assert row["accuracy"] == pytest.approx(measures.picking(network, recipe.input))
            assert row["cost"] == row[kind] == design.candidate.cost[kind] <= row["limit"]
            assert row["path"].count(" + ") == len(design.candidate.others)
            assert set(re.findall(r"\w+", row["path"])) == {source.name for source in recipe.sources}
            better = [one for one in rows if one["cost"] <= row["cost"] and one["accuracy"] >= row["accuracy"]]
            beaten = any((one["cost"], one["accuracy"]) != (row["cost"], row["accuracy"]) for one in better)
            assert row["on_front"] == (not beaten)
        assert any(not row["on_front"] for row in rows)
    chain = steps[0].bought["chain"]
    tried = [reassemble(bricks, chain.candidate.pick, how) for how in ("statistics", "layers", "layers_and_head")]
    right = [built.judge(measures.choosing.logits(*_asked(one)), measures.choosing.labels) for one in tried]
    assert chain.treatments == (("statistics", "layers", "layers_and_head")[right.index(max(right))],)


def _asked(made: Any) -> Any:
    return made[0], made[1].input


def test_the_other_limits_hold_and_the_swept_one_does_not(
    workshop: Workshop, problem: AssemblyProblem, asked: Assembly, measures: Measures
) -> None:
    costs = [one.cost for one in search.best(problem, 1000).candidates]
    macs = sorted(cost["macs"] for cost in costs)[len(costs) // 2]
    held = replace(problem, limits={"params": 1, "macs": macs})
    limits = sweeping.limits(held, "params", 2, [0, 1, 2], 2)
    assert limits[0] == min(cost["params"] for cost in costs if cost["macs"] <= macs)
    found = sweeping.swept(workshop, held, [0, 1, 2], {"params": limits}, asked, measures)
    assert [set(step.bought) >= {"chain"} for step in found] == [True, True]
    assert all(design.candidate.cost["macs"] <= macs for step in found for design in step.bought.values())
    whole = sorted(problem.cost(problem.whole(m), "params") for m in range(3))
    least = replace(problem, at_least={"params": int(whole[0]) + 1})
    (found,) = sweeping.swept(workshop, least, [0, 1, 2], {"macs": [1e12]}, asked, measures)
    assert all(design.candidate.cost["params"] > whole[0] for design in found.bought.values())
    assert "whole" in found.bought


def test_where_nothing_meets_the_other_limits_it_is_said_before_anything_is_fitted(problem: AssemblyProblem) -> None:
    held = replace(problem, limits={"params": 10**6, "macs": 10})
    with pytest.raises(BrickyardError, match=r"^no candidate meets the budgets: .*macs = 10: at least \d+ MACs$"):
        sweeping.limits(held, "params", 3, [0, 1, 2], 2)
    with pytest.raises(BrickyardError, match=r"^no candidate has the sources that are asked for"):
        sweeping.limits(replace(problem, min_sources=4), "macs", 3, [0, 1, 2], 2)
