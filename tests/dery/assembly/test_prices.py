"""The assembly problem of a zoo: who may lend, latency where it has been measured."""

from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest

from lib.base.errors import BrickyardError
from lib.chain import latency
from lib.chain.latency import Latencies, Measured, StitchLatency
from lib.dery.assembly import prices
from lib.dery.assembly.material import Bricks
from lib.dery.assembly.reassembly import reassemble
from lib.dery.paths import search
from lib.params.assembly import Assembly
from lib.trace import cost

UNMEASURED = Path("data/latency.json")
Params = Callable[..., Assembly]


@pytest.fixture
def measured(bricks: Bricks, tmp_path: Path) -> Path:
    """Node i of a network takes i + 1 ms, its head 0.5, a stitch 0.25."""
    networks = {
        chain.name: Measured(latency.fingerprint(chain), {n.name: i + 1.0 for i, n in enumerate(chain.nodes)}, 0.5)
        for chain in bricks.chains
    }
    latency.save(tmp_path / "latency.json", Latencies(networks, StitchLatency(0.25, 0.0), {}))
    return tmp_path / "latency.json"


def test_latency_adds_up_over_nodes_stitches_and_head(bricks: Bricks, params: Params, measured: Path) -> None:
    limited = params(budget={"params": None, "macs": None, "latency": 7.0})
    problem = prices.assembly_problem(bricks, limited, measured)
    assert problem.limits == {"latency": 7.0}
    assert problem.cost((0, 0, 0), "latency") == 1 + 2 + 3 + 4 + 0.5
    assert problem.cost((1, 0, 1), "latency") == 1 + 0.25 + (2 + 3) + 0.25 + 3 + 0.5
    assert problem.price((1, 0, 1))["latency"] == 10.0


def test_a_limit_on_stitches_is_the_problems(bricks: Bricks, params: Params) -> None:
    problem = prices.assembly_problem(bricks, params(max_stitches=1), UNMEASURED)
    found = search.best(problem, 100).candidates
    assert {len(one.pick.runs()) for one in found} == {2}
    assert len(found) == 3 * 2 * 2  # pairs of networks, either cut
    with pytest.raises(BrickyardError, match=r"assembly\.max_stitches = 1: a candidate has 2 sources at most; see m"):
        prices.assembly_problem(bricks, params(max_stitches=1, min_sources=3), UNMEASURED)


def test_latency_is_left_out_where_nothing_asks_for_it(bricks: Bricks, params: Params) -> None:
    assert set(prices.assembly_problem(bricks, params(), UNMEASURED).costs) == {"params", "macs", "memory"}


def test_a_network_that_is_another_than_was_measured_is_not_priced(
    bricks: Bricks, params: Params, measured: Path
) -> None:
    """The same name and nodes, but other sizes."""
    found = latency.load(measured)
    name = bricks.chains[1].name
    changed = replace(found, networks={**found.networks, name: replace(found.networks[name], made_of="0" * 64)})
    latency.save(measured, changed)
    assert "latency" not in prices.assembly_problem(bricks, params(), measured).costs
    limited = params(budget={"params": None, "macs": None, "latency": 7.0})
    with pytest.raises(BrickyardError, match=rf"latency: {name} has other nodes, sizes or costs than when it was"):
        prices.assembly_problem(bricks, limited, measured)
    measured.write_bytes(measured.read_bytes().replace(b"0.5", b"0.4"))
    with pytest.raises(BrickyardError, match=r"latency\.json is damaged"):
        prices.assembly_problem(bricks, params(), measured)


def test_a_budget_on_what_was_never_measured_is_one_line(bricks: Bricks, params: Params) -> None:
    limited = params(budget={"params": None, "macs": None, "latency": 7.0})
    with pytest.raises(BrickyardError, match=r"nothing has been measured yet: \./run python -m commands\.latency"):
        prices.assembly_problem(bricks, limited, UNMEASURED)


def test_stitches_and_heads_count_and_staying_costs_nothing(bricks: Bricks, params: Params) -> None:
    problem = prices.assembly_problem(bricks, params(), UNMEASURED)
    for kind, table in problem.costs.items():
        for k in range(2):
            if kind == "memory":
                continue
            assert (table.stitches[k].diagonal() == 0).all()
            assert (table.stitches[k] > 0).sum() == 6
    resnet = bricks.chains[0]
    assert problem.cost((0, 0, 0), "params") == resnet.cost(0, 4).params + resnet.head_cost.params
    layout = bricks.chains[2].layout(3)
    assert problem.costs["params"].blocks[2, 2] - bricks.chains[2].cost(2, 3).params == 4 * (layout.channels + 1)


def test_who_may_lend(bricks: Bricks, params: Params) -> None:
    def lend(**changes: object) -> list[str]:
        return [bricks.cards[m].name for m in prices.lenders(bricks, params(**changes))]

    assert lend() == ["resnet", "vit", "plain"]
    assert lend(exclude=["vit"]) == ["resnet", "plain"]
    assert lend(licences=["MIT"]) == ["resnet", "plain"]
    assert lend(licences=["MIT", "Apache-2.0"], exclude=["resnet"]) == ["vit", "plain"]
    problem = prices.assembly_problem(bricks, params(licences=["MIT"], include=["plain"]), UNMEASURED)
    assert (problem.excluded, problem.required) == ({1}, {2})


def test_single_blocks_that_are_lent_and_are_not(bricks: Bricks, params: Params) -> None:
    task = params(include=["plain:2", "vit"], exclude=["vit:3", "resnet:1"])
    problem = prices.assembly_problem(bricks, task, UNMEASURED)
    assert (problem.excluded, problem.required) == (set(), {1, 2})
    assert (problem.required_blocks, problem.excluded_blocks) == ({(1, 2)}, {(2, 1), (0, 0)})
    found = {tuple(c.pick.networks) for c in search.best(problem, 100).candidates}
    assert found == {("vit", "plain", "resnet"), ("vit", "plain", "plain")}


def test_lower_limits_hold_whatever_form_a_stitch_is_given(bricks: Bricks, params: Params) -> None:
    task = params(budget={"params": None, "macs": None, "at_least": {"params": 1.0}})
    problem = prices.assembly_problem(bricks, task, UNMEASURED)
    assert prices.assembly_problem(bricks, params(), UNMEASURED).cheapest == {}
    cheaper = 0
    for path in [*product(range(3), repeat=3)][1::5]:
        counted = []
        for down in ("pool", "patch"):
            own = replace(bricks, joining=bricks.joining.model_copy(update={"down": down}))
            network, recipe = reassemble(own, own.pick(path))
            counted.append(cost.count(network, recipe.input.shape))
        for kind in ("params", "macs"):
            values = sorted(getattr(one, kind) for one in counted)
            assert [problem.at_cheapest.cost(path, kind), problem.cost(path, kind)] == values, path
            cheaper += values[0] < values[1]
    assert cheaper > 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"include": ["plain:4"]}, r"assembly\.include: plain:4: blocks go from 1 to 3"),
        ({"include": ["plan:2"]}, r"assembly\.include: the zoo has no 'plan'; did you mean plain\?"),
        (
            {"licences": ["MIT"], "include": ["vit:2"]},
            r"assembly\.include: vit is excluded, by exclude or by its licence",
        ),
        (
            {"licences": ["MIT"], "exclude": ["resnet:2", "plain:2"]},
            r"assembly\.exclude: no .* block 2",
        ),
        ({"exclude": ["resnett"]}, r"assembly\.exclude: the zoo has no 'resnett'; did you mean resnet\?"),
        ({"include": ["xyz"]}, r"assembly\.include: the zoo has no 'xyz'; resnet, vit, plain"),
        ({"licences": ["GPL-3.0"]}, r"assembly\.licences = \['GPL-3\.0'\]: .* are under Apache-2\.0, MIT"),
        (
            {"licences": ["MIT"], "include": ["vit"]},
            r"assembly\.include: vit is excluded, by exclude or by its licence",
        ),
        ({"licences": ["Apache-2.0"]}, r"assembly\.min_sources = 2: 1 networks may lend"),
    ],
)
def test_conditions_on_sources_that_cannot_be_met(
    bricks: Bricks, params: Params, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(BrickyardError, match=message):
        prices.assembly_problem(bricks, params(**changes), UNMEASURED)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_sources": 1}, "should be at least min_sources = 2"),
        ({"include": ["a"], "exclude": ["a"]}, "a is in include, too"),
        ({"include": ["a:2"], "exclude": ["a"]}, "a:2 is in include, too"),
        ({"include": ["a:2"], "exclude": ["a:2"]}, "a:2 is in include, too"),
        ({"rank": "luck"}, "rank"),
        ({"licences": []}, "licences"),
    ],
)
def test_params_that_contradict_one_another(params: Params, changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        params(**changes)
