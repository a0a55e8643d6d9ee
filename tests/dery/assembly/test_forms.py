"""Smaller forms of blocks: what they are, what they cost, how they are put together, against definitions."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations, pairwise, product
from pathlib import Path
from typing import TypeVar

import pytest
import torch
from torch.nn import functional as F

from lib.base.errors import BrickyardError
from lib.base.memo import Memo
from lib.chain import latency
from lib.chain.chain import Chain
from lib.dery.assembly import forms, joining, narrowing, prices, ranking
from lib.dery.assembly.built import Measures
from lib.dery.assembly.edges import fit
from lib.dery.assembly.fronts import Fronts
from lib.dery.assembly.gains import scores
from lib.dery.assembly.grove import Grove
from lib.dery.assembly.material import Bricks, Smaller
from lib.dery.assembly.reassembly import reassemble
from lib.dery.assembly.recount import recount
from lib.dery.assembly.tree import plant
from lib.dery.assembly.widened import widened
from lib.dery.assembly.workshop import Workshop
from lib.dery.paths import search, trees
from lib.dery.paths.certificate import certify
from lib.dery.paths.problem import AssemblyProblem
from lib.dery.paths.tables import Columns
from lib.images.data import DataSet
from lib.network import files
from lib.network.blocks import Block, Pick
from lib.network.reassembled import Reassembled
from lib.params.assembly import Assembly
from lib.params.components import Repair
from lib.params.contributions import Contributions
from lib.trace import cost
from lib.zoo.architecture import Architecture, Factory
from tests import pico
from tests.dery.conftest import PARAMS

CONTRIBUTIONS = Contributions.model_validate(
    {"models": ["resnet"], "images_per_class": 5, "batch_size": 8}
    | {kind: {"alpha": 0.3, "beta": 0.2} for kind in ("conv", "linear")}
)
REPAIR = Repair(images=40, classifier_images=40, steps=1, joint=0)
NOWHERE = Path("latency.json")
T = TypeVar("T")


@pytest.fixture(scope="module")
def wide(bricks: Bricks, images: DataSet, tmp_path_factory: pytest.TempPathFactory) -> tuple[Bricks, Path]:
    """The bricks with all forms of all networks, as stages leave and read them."""
    folder = tmp_path_factory.mktemp("bricks")
    for m, card in enumerate(bricks.cards):
        module = bricks.chains[m]._model
        widths = [] if card.name == "plain" else [0.5]  # each of its blocks is one layer
        made = narrowing.narrow(bricks, card.name, module, widths, images, CONTRIBUTIONS, REPAIR) if widths else {}
        opened = {(card.name, width): forms.opened(card, *one) for width, one in made.items()}
        fronts = Fronts(bricks, Memo())
        found = forms.priced(replace(bricks, narrow=opened), card.name, fronts)
        found += forms.skipped(bricks, card.name, fronts)
        forms.save(folder / card.name, card.name, found, made, None)
    edges = [edge for card in bricks.cards for edge in fit(bricks, card.name, Fronts(bricks, Memo()), Memo())]
    own = replace(bricks, edges={edge.joint: edge for edge in edges})
    return forms.load(own, folder, trust=True), folder


@pytest.fixture(scope="module")
def problem(wide: tuple[Bricks, Path]) -> AssemblyProblem:
    params = Assembly.model_validate(PARAMS)
    found = prices.assembly_problem(wide[0], params, NOWHERE)
    found = replace(found, scores=scores(wide[0], params, None, Path()))
    return widened(found, wide[0], params, NOWHERE)


def every(problem: AssemblyProblem) -> list[Columns]:
    paths = product(range(problem.choices), repeat=problem.sets)
    return [path for path in paths if problem.feasible(path)]


def some(paths: Sequence[T], count: int) -> list[T]:
    return [paths[i] for i in torch.randperm(len(paths), generator=torch.Generator().manual_seed(0)).tolist()[:count]]


def test_a_narrow_block_fits_where_the_whole_one_does(wide: tuple[Bricks, Path]) -> None:
    bricks, _ = wide
    assert {name for name, _ in bricks.narrow} == {"resnet", "vit"}
    for (name, width), narrow in bricks.narrow.items():
        m = bricks.place(name)
        whole = bricks.chains[m]
        assert [node.output for node in narrow.chain.nodes] == [node.output for node in whole.nodes]
        assert narrow.chain.total.params < whole.total.params
        for layer, kept in narrow.kept.items():
            count = len(whole._model.get_submodule(layer).get_parameter("weight"))
            assert len(kept) in (count, round(width * count)) or name == "vit"


@pytest.mark.parametrize("kind", ["narrow", "without"])
def test_prices_of_forms_are_what_is_left_of_the_network(wide: tuple[Bricks, Path], kind: str) -> None:
    bricks, _ = wide
    for name, found in bricks.forms.items():
        one = next((form for form in found if form.block.narrow == (kind == "narrow")), None)
        if one is None:
            assert name == "plain"
            continue
        m = bricks.place(name)
        chain, (start, stop) = bricks.chains[m], (one.block.start, one.block.stop)
        i, j = one.block.without or (start, stop)
        x = torch.cat([x for x, _ in bricks.fit[m]])
        with torch.no_grad():
            before = chain[0:i](x.clone()) if i else x
            wanted = chain[i:j](before.clone())
            part = one.edge.stitch if one.edge else bricks.chain(one.block)[start:stop]
            made = part(before.clone())
        axes = (0, 2, 3) if wanted.ndim == 4 else (0, 1)
        spread = (wanted - wanted.mean(axes, keepdim=True)).double().square().sum()
        r2 = 1 - float((made - wanted).double().square().sum() / spread)
        assert one.r2 == pytest.approx(r2, abs=2e-3 if one.edge else 1e-5)
        plain = name == "vit"
        if plain and kind == "narrow":  # no BatchNorm whose statistics would change
            with torch.no_grad():
                said = chain.head(chain[j : len(chain)](made) if j < len(chain) else made)
                own = chain.head(chain[0 : len(chain)](x.clone()))
            kl = F.kl_div(said.log_softmax(1), own.log_softmax(1), reduction="batchmean", log_target=True)
            assert one.kl == pytest.approx(float(kl), rel=1e-4, abs=1e-7)
        assert one.kl >= 0


def test_forms_take_as_long_as_what_is_measured_of_them(wide: tuple[Bricks, Path], tmp_path: Path) -> None:
    bricks, _ = wide

    def measured(chain: Chain, ms: float) -> latency.Measured:
        return latency.Measured(latency.fingerprint(chain), {node.name: ms for node in chain.nodes}, 4.0)

    networks = {chain.name: measured(chain, 1.0) for chain in bricks.chains}
    narrow = {name: {width: measured(own.chain, 0.25)} for (name, width), own in bricks.narrow.items()}
    stitch, params = latency.StitchLatency(0.5, 0.0), Assembly.model_validate(PARAMS)
    seen = set[str]()

    def one_network(path: Columns) -> bool:
        offered = all((k, column) not in wide_found.absent for k, column in enumerate(path))
        return offered and len({wide_found.lenders[column] for column in path}) == 1

    for own in (narrow, {}, {name: {0.5: measured(bricks.chains[0], 9.0)} for name in narrow}):  # none, and another's
        latency.save(tmp_path / "latency.json", latency.Latencies(networks, stitch, {}, own))
        found = prices.assembly_problem(bricks, params, tmp_path / "latency.json")
        wide_found = widened(found, bricks, params, tmp_path / "latency.json")
        alone = [path for path in product(range(wide_found.choices), repeat=wide_found.sets) if one_network(path)]
        for path in some(alone, 40):
            ms = 4.0
            for block in Pick.of(wide_found.blocks, path).blocks:
                nodes = sum(piece.stop - piece.start for piece in block.pieces())
                ms += nodes * (0.25 if block.narrow and own is narrow else 1.0) + (0.5 if block.without else 0.0)
                seen.add("narrow" if block.narrow else "without" if block.without else "whole")
            assert wide_found.price(path)["latency"] == pytest.approx(ms)
    assert seen == {"narrow", "without", "whole"}


def test_repair_brings_a_narrow_block_nearer_to_the_whole_one(bricks: Bricks, images: DataSet) -> None:
    module = bricks.chains[0]._model
    found = {}
    for how in (REPAIR, Repair(method="none", images=40)):
        made = narrowing.narrow(bricks, "resnet", module, [0.5], images, CONTRIBUTIONS, how)
        opened = {("resnet", width): forms.opened(bricks.cards[0], *one) for width, one in made.items()}
        found[how.method] = forms.priced(replace(bricks, narrow=opened), "resnet", Fronts(bricks, Memo()))
    assert [one.block for one in found["ridge"]] == [one.block for one in found["none"]]
    assert sum(one.r2 for one in found["ridge"]) > sum(one.r2 for one in found["none"])


def test_channels_of_a_network_with_other_classes_are_told_by_their_weights(bricks: Bricks, images: DataSet) -> None:
    strange = replace(bricks.cards[0], classes=("w", "x", "y", "z"))
    own, none = replace(bricks, cards=(strange, *bricks.cards[1:])), Repair(method="none", images=40)
    made = narrowing.narrow(own, "resnet", bricks.chains[0]._model, [0.5], images, CONTRIBUTIONS, none)
    by_norm = CONTRIBUTIONS.model_copy(update={"score": "magnitude"})
    known = narrowing.narrow(bricks, "resnet", bricks.chains[0]._model, [0.5], images, by_norm, none)
    assert made[0.5][1].kept == known[0.5][1].kept


def test_a_network_of_single_layers_has_no_narrow_form(bricks: Bricks, images: DataSet) -> None:
    with pytest.raises(BrickyardError, match=r"^bricks\.widths: plain: no channel lies within one block"):
        narrowing.narrow(bricks, "plain", bricks.chains[2]._model, [0.5], images, CONTRIBUTIONS, REPAIR)


def test_whole_blocks_keep_their_columns(wide: tuple[Bricks, Path], problem: AssemblyProblem) -> None:
    bricks, _ = wide
    base = prices.assembly_problem(bricks, Assembly.model_validate(PARAMS), NOWHERE)
    for path in product(range(3), repeat=3):
        assert base.price(path) == problem.price(path)
        assert base.feasible(path) == problem.feasible(path)
    assert problem.whole(1) == (1, 1, 1)


def test_the_search_is_exact_over_all_forms(problem: AssemblyProblem) -> None:
    paths = every(problem)
    assert len(paths) > 100
    limit = sorted(problem.cost(path, "params") for path in paths)[len(paths) // 2]
    limited = replace(problem, limits={"params": limit})
    best = sorted((-limited.score(path), path) for path in every(limited))[:20]
    pool = search.best(limited, 20)
    assert [limited.path(one.pick) for one in pool.candidates] == [path for _, path in best]
    certify(limited, pool)


def test_no_stitch_stands_beside_one(problem: AssemblyProblem) -> None:
    for path in every(problem):
        blocks = [problem.blocks[k][column] for k, column in enumerate(path)]
        assert not blocks[0].opens
        assert not blocks[-1].closes
        for one, other in pairwise(blocks):
            if one.closes or other.opens:
                assert one.network == other.network
                assert not (one.closes and other.opens)


def test_a_candidate_of_forms_costs_what_was_predicted_and_survives_the_disk(
    wide: tuple[Bricks, Path], problem: AssemblyProblem, tmp_path: Path
) -> None:
    bricks, _ = wide
    x = next(iter(bricks.fit[0]))[0]
    free = replace(problem, min_sources=1)
    for number, path in enumerate(some(every(free), 9)):
        candidate = search.Candidate.of(free, path)
        network, recipe = reassemble(bricks, candidate.pick, ("none", "statistics", "layers")[number % 3])
        recount("it", network, recipe, bricks, candidate.cost, {})
        if number % 5 == 0:
            files.save(tmp_path / str(number), network, recipe)
            again, _ = files.load_as(Reassembled, tmp_path / str(number), trust=True)
            torch.testing.assert_close(again(x), network(x))  # its weights lie in another order


def test_kept_fits_of_forms_are_found_again(
    wide: tuple[Bricks, Path], problem: AssemblyProblem, tmp_path: Path
) -> None:
    bricks, _ = wide
    picks = [search.Candidate.of(problem, path).pick for path in some(every(problem), 8)]
    first = Workshop(bricks, 2**30, Memo(tmp_path))
    made = [first.reassemble(pick, "layers")[0].state_dict() for pick in picks]
    for pick, state in zip(picks, made, strict=True):
        again = Workshop(bricks, 2**30, Memo(tmp_path)).reassemble(pick, "layers")[0].state_dict()
        assert again.keys() == state.keys()
        assert all(torch.equal(again[key], state[key]) for key in state)


def test_a_tree_of_forms_is_the_mean_of_its_chains(wide: tuple[Bricks, Path], problem: AssemblyProblem) -> None:
    bricks, _ = wide
    x = next(iter(bricks.fit[0]))[0]
    paths = [path for path in every(replace(problem, min_sources=1)) if problem.networks[path[0]] != 2]
    workshop = Workshop(bricks, 2**30)
    for one, other in zip(some(paths, 6), some(paths, 12)[6:], strict=True):
        picks = [search.Candidate.of(problem, path).pick for path in (one, other)]
        chains = [workshop.reassemble(pick, "statistics") for pick in picks]
        tree, recipe = plant(bricks, picks, chains, (0.5, 0.5))
        apart = Grove.of(bricks, {str(i): chain for i, chain in enumerate(chains)}).ask(recipe.input, x)
        assert torch.allclose(tree(x), (chains[0][0](x) + chains[1][0](x)) / 2, atol=1e-5)
        assert torch.allclose(torch.stack([*apart.values()]).mean(0), tree(x), atol=1e-5)
        counted, price = cost.count(tree, recipe.input.shape), trees.price(problem, (one, other))
        assert (counted.params, counted.macs) == (price["params"], price["macs"])
        assert counted.memory <= price["memory"]


def test_a_tree_parts_behind_no_closing_stitch(wide: tuple[Bricks, Path], problem: AssemblyProblem) -> None:
    """Each tail would have its own. Behind a block in front of it, they part."""
    bricks, _ = wide
    free = replace(problem, min_sources=1)
    closed = [path for path in every(free) if problem.blocks[1][path[1]].closes and path[0] < len(problem.names)]
    pairs = [pair for pair in combinations(closed, 2) if pair[0][:2] == pair[1][:2]]
    assert pairs
    for one, other in some(pairs, 20):
        assert not trees.feasible(free, (one, other))
        assert not trees.may_join(free, ((2, 2, 2), one, other))
    lawful = [path for path in every(free) if path[0] == closed[0][0] and path[1] != closed[0][1]]
    workshop = Workshop(bricks, 2**30)
    for path in some(lawful, 2):
        pair = closed[0], path
        assert trees.may_join(free, pair)
        picks = [search.Candidate.of(free, own).pick for own in pair]
        tree, recipe = plant(bricks, picks, [workshop.reassemble(pick, "none") for pick in picks], (0.5, 0.5))
        recount("it", tree, recipe, bricks, trees.price(free, pair), {})


def test_tails_that_begin_with_two_narrow_blocks_treat_them_alike(
    wide: tuple[Bricks, Path], problem: AssemblyProblem, measures: Measures
) -> None:
    """The second one is a part of its own, which is treated behind the first, though both are of one column."""
    bricks, _ = wide

    def of(column: int, last: int) -> Columns:
        return column, column, last

    free, workshop = replace(problem, min_sources=1), Workshop(bricks, 2**30)
    twice = [c for c in range(problem.choices) if all(problem.blocks[k][c].narrow for k in (0, 1))]
    column = next(c for c in twice if free.feasible(of(c, 0)) and free.feasible(of(c, 1)))
    candidates = [search.Candidate.of(free, of(column, last)) for last in (0, 1)]
    known = joining.members(workshop, free, candidates, ("statistics", "layers"), measures)
    for number in range(2):  # the first of one treatment, the second of both
        found = joining.Joiner(free, [known[number], *known[2:]], measures, 2).best(9)
        assert [design.treatments for design in found] == [(known[number].treatment,) * 2]
        for design in found:
            ranking.put_together(workshop, design)


@pytest.mark.parametrize(
    ("cuts", "words"),
    [
        ((0, 2, 5, 6), ["deep at 0.5 > deep > plain", "deep without 2 > deep > plain"]),
        ((0, 1, 2, 6), ["deep > deep without 2 > deep"]),
    ],
)
def test_the_next_block_of_the_network_is_priced_with_what_enters_it(
    bricks: Bricks, images: DataSet, cuts: tuple[int, ...], words: list[str]
) -> None:
    """It is a part of its own behind a narrow block, one that ends in a stitch and one that is left out whole."""
    layers, factory = {"widths": (16,) * 6}, "tests.pico:plain"
    architecture = Architecture(None, None, factory, Factory.find(factory, trust=True).sha256, layers, 4)
    model = pico.alive(architecture.build(trust=True))
    card = replace(bricks.cards[2], name="deep", architecture=architecture, cost=cost.count(model, pico.IMAGE))
    own = replace(
        bricks,
        cards=(card, bricks.cards[2]),
        chains=(Chain("deep", model, pico.IMAGE), bricks.chains[2]),
        cuts=(cuts, bricks.cuts[2]),
        fit=bricks.fit[:2],
        labelled=bricks.labelled[:2],
    )
    none = Repair(method="none", images=40)
    made = narrowing.narrow(own, "deep", model, [0.5], images, CONTRIBUTIONS, none)
    own = replace(own, narrow={("deep", width): forms.opened(card, *one) for width, one in made.items()})
    found = [form for work in (forms.priced, forms.skipped) for form in work(own, "deep", Fronts(own, Memo()))]
    own, params = replace(own, forms={"deep": found}), Assembly.model_validate({**PARAMS, "min_sources": 1})
    task = widened(prices.assembly_problem(own, params, NOWHERE), own, params, NOWHERE)
    candidates = {one.pick.words: one for one in (search.Candidate.of(task, path) for path in every(task))}
    for one in words:
        network, recipe = reassemble(own, candidates[one].pick, "none")
        recount(one, network, recipe, own, candidates[one].cost, {})


def test_what_belongs_to_another_cut_is_one_line(wide: tuple[Bricks, Path]) -> None:
    bricks, folder = wide
    other = replace(bricks, cuts=((0, 2, 3, 4), *bricks.cuts[1:]))
    with pytest.raises(BrickyardError, match="is no block of set"):
        forms.load(other, folder, trust=True)


def test_figures_name_every_form(wide: tuple[Bricks, Path]) -> None:
    found: list[Smaller] = [*wide[0].forms["resnet"]]
    told = forms.figures(found)
    assert sum(map(len, told.values())) == len(found)
    assert set(told["set_2"]) == {"at_0.5", "without_2", "without_3"}
    assert Block("a", 0, 3, without=(1, 2)).form == "without 2"
