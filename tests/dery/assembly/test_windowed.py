"""Stitches between cuts of unequal depth, against paths that are listed one by one."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations, pairwise
from math import log
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from lib.base.errors import BrickyardError
from lib.base.memo import Memo
from lib.chain import latency
from lib.chain.chain import Chain
from lib.dery.assembly import forms, prices
from lib.dery.assembly.edges import figures, fit, load, save
from lib.dery.assembly.fronts import Fronts
from lib.dery.assembly.gains import scores
from lib.dery.assembly.material import Bricks
from lib.dery.assembly.reassembly import reassemble
from lib.dery.assembly.recount import recount
from lib.dery.assembly.tree import plant
from lib.dery.assembly.widened import widened
from lib.dery.assembly.workshop import Workshop
from lib.dery.paths import search, trees
from lib.dery.paths.certificate import certify
from lib.dery.paths.problem import AssemblyProblem, Candidate
from lib.dery.paths.tables import Columns
from lib.images.data import DataSet, Loader
from lib.network import files
from lib.network.blocks import Block
from lib.network.reassembled import Reassembled
from lib.params.assembly import Assembly
from lib.params.edges import Edges
from lib.trace import cost
from lib.zoo.architecture import Architecture, Factory
from lib.zoo.card import Card, Input
from tests import pico
from tests.dery.conftest import CLASSES, PARAMS

WIDTHS = {"thin": 4, "middle": 6, "wide": 8}
SETS, WINDOW = 4, 2
NOWHERE = Path("latency.json")
Segment = tuple[str, int, int]  # a network, from which of its cuts to which


@pytest.fixture(scope="module")
def bricks(images: DataSet) -> Bricks:
    """Three residual networks with all edges of a window, and one block of each that skips a node."""
    torch.manual_seed(1)
    factory, expected = "tests.pico:PicoResNet", Input(16, (0.5,) * 3, (0.5,) * 3, "bicubic", 1.0)
    cards, chains = [], []
    for name, width in WIDTHS.items():
        code = Factory.find(factory, trust=True).sha256
        architecture = Architecture(None, None, factory, code, {"width": width}, 4)
        model = pico.alive(architecture.build(trust=True))
        counted = cost.count(model, pico.IMAGE)
        cards.append(Card(name, architecture, expected, CLASSES, (), "train", "MIT", counted, None))
        chains.append(Chain(name, model, pico.IMAGE))
    loaders = tuple(Loader(images.images, images.probe, expected.transform(), 16) for _ in cards)
    joining = Edges(batch_size=16, window=WINDOW)
    cuts = (tuple(range(SETS + 1)),) * 3
    found = Bricks(tuple(cards), tuple(chains), cuts, loaders, CLASSES, joining, labelled=loaders)
    made = [edge for card in cards for edge in fit(found, card.name, Fronts(found, Memo()), Memo())]
    return replace(found, edges={edge.joint: edge for edge in made})


@pytest.fixture(scope="module")
def problem(bricks: Bricks) -> AssemblyProblem:
    return problem_of(bricks)


def problem_of(bricks: Bricks, rules: dict[str, list[str]] | None = None, latencies: Path = NOWHERE) -> AssemblyProblem:
    params = Assembly.model_validate({**PARAMS, "min_sources": 1, **(rules or {})})
    found = prices.assembly_problem(bricks, params, latencies)
    return widened(replace(found, scores=scores(bricks, params, None, Path())), bricks, params, latencies)


def every(problem: AssemblyProblem) -> list[Columns]:
    """All feasible paths, column by column."""
    paths: list[Columns] = [(column,) for column in range(problem.choices) if problem.open_blocks[0, column]]
    for k in range(1, problem.sets):
        steps = problem.open_stitches[k - 1] & problem.open_blocks[k]
        paths = [(*path, n) for path in paths for n in range(problem.choices) if steps[path[-1], n]]
    return [path for path in paths if problem.feasible(path)]


def some(paths: list[Columns], count: int) -> list[Columns]:
    return [paths[i] for i in torch.randperm(len(paths), generator=torch.Generator().manual_seed(0)).tolist()[:count]]


def ways(before: tuple[Segment, ...] = ()) -> Iterator[tuple[Segment, ...]]:
    """All sequences of segments from the image to a head; whatever is entered goes beyond where the last was left."""
    name, left = (before[-1][0], before[-1][2]) if before else (None, 0)
    if left == SETS:
        yield before
        return
    for other in WIDTHS:
        entered = range(max(1, left - WINDOW), min(SETS - 1, left + WINDOW) + 1) if before else (0,)
        for start in entered if other != name else ():
            for stop in range(max(start, left) + 1, SETS + 1):
                yield from ways((*before, (other, start, stop)))


def segments(problem: AssemblyProblem, path: Columns) -> tuple[Segment, ...]:
    """Cuts of these networks are numbers of nodes."""
    return tuple((run.network, run.start, run.stop) for run in Candidate.of(problem, path).pick.runs())


def test_paths_are_all_ways_through_the_window(problem: AssemblyProblem) -> None:
    found, wanted = [segments(problem, path) for path in every(problem)], list(ways())
    assert len(found) == len(set(found)) == len(wanted) > 3**SETS
    assert set(found) == set(wanted)


def test_scores_and_costs_are_those_of_segments_and_stitches(bricks: Bricks, problem: AssemblyProblem) -> None:
    for path in every(problem):
        own = segments(problem, path)
        joints = [(a[2], a[0], b[0], b[1] - a[2]) for a, b in pairwise(own)]
        score = sum(log(max(bricks.edges[joint].r2, 1e-6)) for joint in joints)
        assert problem.score(path) == pytest.approx(score, abs=1e-8)
        params = sum(bricks.chains[bricks.place(name)].cost(i, j).params for name, i, j in own)
        params += bricks.chains[bricks.place(own[-1][0])].head_cost.params
        for k, before, behind, shift in joints:
            ends = [bricks.chains[bricks.place(n)].layout(at) for n, at in ((before, k), (behind, k + shift))]
            params += max(prices.stitch_cost(*ends, p, "linear").params for p in bricks.patches(ends[0], ends[1]))
        assert problem.price(path)["params"] == params


def test_the_search_is_exact_in_a_window(problem: AssemblyProblem) -> None:
    limit = sorted(problem.cost(path, "params") for path in every(problem))[len(every(problem)) // 2]
    limited = replace(problem, limits={"params": limit})
    best = sorted((-limited.score(path), path) for path in every(limited))[:30]
    pool = search.best(limited, 30)
    assert [limited.path(one.pick) for one in pool.candidates] == [path for _, path in best]
    certify(limited, pool)


@pytest.mark.parametrize("lender", ["thin:2", "wide:3"])
def test_rules_on_single_blocks_hold_for_nodes(bricks: Bricks, problem: AssemblyProblem, lender: str) -> None:
    """A block that is passed by is not included; one that comes along where its network is entered earlier is excluded.
    Cuts are numbers of nodes.
    """
    name, k = lender.split(":")[0], int(lender[-1]) - 1

    def has(candidate: Candidate) -> bool:
        return any(run.network == name and run.start <= k < run.stop for run in candidate.pick.runs())

    def own(path: Columns) -> Block:
        return _blocks(problem, path)[k]

    paths = every(problem)
    with_it = [path for path in paths if own(path).network == name and not own(path).empty]
    without = [path for path in paths if own(path).network != name and not has(Candidate.of(problem, path))]
    for rule, expected in (("include", with_it), ("exclude", without)):
        ruled = problem_of(bricks, {rule: [lender]})
        assert every(ruled) == expected
        pool = search.best(ruled, len(paths), apart=0)
        assert {ruled.path(one.pick) for one in pool.candidates} == set(expected)
        assert {has(one) for one in pool.candidates} == {rule == "include"}


def test_networks_are_what_was_predicted_and_survive_the_disk(
    bricks: Bricks, problem: AssemblyProblem, tmp_path: Path
) -> None:
    x = next(iter(bricks.fit[0]))[0]
    longer = [path for path in every(problem) if any(block.shifted for block in _blocks(problem, path))]
    for number, path in enumerate(some(longer, 10)):
        candidate = Candidate.of(problem, path)
        network, recipe = reassemble(bricks, candidate.pick, ("none", "statistics", "layers")[number % 3])
        recount("it", network, recipe, bricks, candidate.cost, {})
        assert [(own["start"], own["stop"]) for own in recipe.parts if own["kind"] == "block"] == [
            run[1:] for run in segments(problem, path)
        ]
        if number % 5 == 0:
            files.save(tmp_path / str(number), network, recipe)
            again, _ = files.load_as(Reassembled, tmp_path / str(number), trust=True)
            assert torch.equal(again(x), network(x))


def _blocks(problem: AssemblyProblem, path: Columns) -> list[Block]:
    return [problem.blocks[k][column] for k, column in enumerate(path)]


@torch.no_grad()
def test_kl_is_that_of_the_network_with_one_stitch_in_it(bricks: Bricks, problem: AssemblyProblem) -> None:
    seen = set[int]()
    for path in every(problem):
        own = segments(problem, path)
        if len(own) != 2 or own[1][2] != SETS:
            continue
        edge = bricks.edges[own[0][2], own[0][0], own[1][0], own[1][1] - own[0][2]]
        network, _ = reassemble(bricks, Candidate.of(problem, path).pick, "statistics")
        x = torch.cat([x for x, _ in bricks.fit[0]])
        chain = bricks.chains[bricks.place(own[1][0])]
        said = chain.head(chain[0 : len(chain)](x.clone()))
        kl = F.kl_div(network(x).log_softmax(1), said.log_softmax(1), reduction="batchmean", log_target=True)
        assert edge.kl == pytest.approx(float(kl), rel=1e-3, abs=1e-6)
        seen.add(edge.shift)
    assert seen == {-2, -1, 0, 1, 2}


def test_a_tree_in_a_window_is_the_mean_of_its_chains(bricks: Bricks, problem: AssemblyProblem) -> None:
    x = next(iter(bricks.fit[0]))[0]
    workshop, paths = Workshop(bricks, 2**30), some(every(problem), 100)
    part_later = [(a, b) for a, b in combinations(paths, 2) if a[:2] == b[:2] and _blocks(problem, a)[1].shifted]
    assert len(part_later) >= 6
    for pair in (*part_later[:6], *pairwise(paths[:7])):
        picks = [Candidate.of(problem, path).pick for path in pair]
        chains = [workshop.reassemble(pick, "statistics") for pick in picks]
        tree, recipe = plant(bricks, picks, chains, (0.5, 0.5))
        assert torch.allclose(tree(x), (chains[0][0](x) + chains[1][0](x)) / 2, atol=1e-5)
        counted, price = cost.count(tree, recipe.input.shape), trees.price(problem, pair)
        assert (counted.params, counted.macs) == (price["params"], price["macs"])
        assert counted.memory <= price["memory"]


def test_forms_that_skip_a_node_and_a_window_go_together(bricks: Bricks) -> None:
    fronts = Fronts(bricks, Memo())
    both = replace(bricks, forms={card.name: forms.skipped(bricks, card.name, fronts) for card in bricks.cards})
    wide = problem_of(both)
    paths = [path for path in every(wide) if {bool(b.without) for b in _blocks(wide, path)} == {True, False}]
    paths = [path for path in paths if any(block.shifted for block in _blocks(wide, path))]
    for path in some(paths, 10):
        candidate = Candidate.of(wide, path)
        network, recipe = reassemble(both, candidate.pick, "statistics")
        recount("it", network, recipe, both, candidate.cost, {})
        for one, other in pairwise(_blocks(wide, path)):
            assert not (one.closes and other.opens)


def test_milliseconds_of_segments_add_up(bricks: Bricks, tmp_path: Path) -> None:
    networks = {
        chain.name: latency.Measured(latency.fingerprint(chain), {node.name: 1.0 for node in chain.nodes}, 4.0)
        for chain in bricks.chains
    }
    latency.save(tmp_path / "latency.json", latency.Latencies(networks, latency.StitchLatency(0.5, 0.0), {}))
    found = problem_of(bricks, latencies=tmp_path / "latency.json")
    for path in some(every(found), 60):
        own = segments(found, path)
        ms = 4.0 + sum(stop - start for _, start, stop in own) + 0.5 * (len(own) - 1)
        assert found.price(path)["latency"] == pytest.approx(ms)


def test_edges_of_a_window_survive_the_disk_and_are_missed(bricks: Bricks, tmp_path: Path) -> None:
    for name in WIDTHS:
        save(tmp_path / name, name, [edge for edge in bricks.edges.values() if edge.target == name])
    again = load(bricks, tmp_path)
    assert again.keys() == bricks.edges.keys()
    for key, edge in again.items():
        assert (edge.r2, edge.kl) == (bricks.edges[key].r2, bricks.edges[key].kl)
        own = bricks.edges[key].stitch.state_dict()
        assert all(torch.equal(value, own[name]) for name, value in edge.stitch.state_dict().items())
    assert {"behind_1", "behind_1_to_3", "behind_3_to_2"} <= set(figures([*again.values()]))
    narrower = replace(bricks, joining=Edges(batch_size=16))
    for name in WIDTHS:
        own = [edge for edge in bricks.edges.values() if edge.target == name and not edge.shift]
        save(tmp_path / name, name, own)
    assert len(load(narrower, tmp_path)) == 3 * 6
    with pytest.raises(BrickyardError, match="has no edge from middle behind set 2 to set 2; dvc repro"):
        load(bricks, tmp_path)


def test_words_tell_where_a_network_is_entered(problem: AssemblyProblem) -> None:
    told = {segments(problem, path): Candidate.of(problem, path).pick.words for path in every(problem)}
    assert len(set(told.values())) == len(told)
    assert told[("thin", 0, 1), ("wide", 3, 4)] == "thin > wide passed by > wide passed by > wide"


def test_stitches_of_unequal_depth_are_not_scored_by_cka(bricks: Bricks) -> None:
    params = Assembly.model_validate({**PARAMS, "score": "cka"})
    entire = prices.assembly_problem(bricks, params, NOWHERE)
    with pytest.raises(BrickyardError, match=r"^edges\.window: its stitches have no CKA; write assembly\.score"):
        widened(entire, bricks, params, NOWHERE)


def test_a_network_whose_blocks_share_weights_is_entered_at_equal_depth_alone(bricks: Bricks) -> None:
    model = pico.PicoResNet(width=WIDTHS["wide"])
    first, second = (model.stages.get_submodule(f"0.{i}") for i in (0, 1))
    second.conv2 = first.get_submodule("conv2")
    shared = Chain("wide", pico.alive(model), pico.IMAGE)
    tied = replace(bricks, chains=(*bricks.chains[:2], shared))
    narrower = problem_of(tied)
    paths = every(narrower)

    def is_at_equal_depth(way: tuple[Segment, ...]) -> bool:
        return all(before[2] == behind[1] for before, behind in pairwise(way) if behind[0] == "wide")

    assert {segments(narrower, path) for path in paths} == {way for way in ways() if is_at_equal_depth(way)}
    twice = [
        path for path in paths if any(run[0] == "wide" and run[2] - run[1] > 1 for run in segments(narrower, path))
    ]
    assert len(twice) > 6
    for path in some(twice, 6):
        candidate = Candidate.of(narrower, path)
        recount("it", *reassemble(tied, candidate.pick, "statistics"), tied, candidate.cost, {})
