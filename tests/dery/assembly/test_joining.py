"""What chains are treated with and which are joined: all as brute force on the choosing images finds it."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pytest
import torch

from lib.dery.assembly import joining, prices, ranking
from lib.dery.assembly.built import Design, Measures
from lib.dery.assembly.joining import Member
from lib.dery.assembly.material import Bricks
from lib.dery.assembly.reassembly import reassemble
from lib.dery.assembly.workshop import Workshop
from lib.dery.combining import judge
from lib.dery.paths import trees
from lib.dery.paths.problem import AssemblyProblem, Candidate
from lib.network.blocks import Block, Pick
from lib.params.assembly import CHOSEN, Assembly, Treatment

MEMORY = 2**30


@pytest.fixture(scope="module")
def workshop(bricks: Bricks) -> Workshop:
    return Workshop(bricks, MEMORY)


@pytest.fixture(scope="module")
def known(bricks: Bricks, workshop: Workshop, measures: Measures) -> list[Member]:
    """Hybrids that share stitches under three treatments, and whole networks."""
    budget = {"params": None, "macs": None}
    counts = dict.fromkeys(("pool", "head_images", "random_assemblies", "batch_size"), 16)
    asked = Assembly.model_validate({"budget": budget, "min_sources": 1, **counts})
    problem = prices.assembly_problem(bricks, asked, Path("data/latency.json"))
    pool = [Candidate.of(problem, path) for path in ((0, 1, 1), (0, 1, 0), (0, 0, 1), (2, 1, 1))]
    found = joining.members(workshop, problem, pool, CHOSEN, measures)
    return found + joining.members(workshop, problem, joining.whole(problem, [0, 2]), ("none",), measures)


def test_members_are_the_networks_and_what_they_say(
    bricks: Bricks, known: list[Member], measures: Measures, task: AssemblyProblem
) -> None:
    assert len(known) == 4 * 3 + 2
    assert [one.treatment for one in known if len(set(one.path)) == 1] == ["none", "none"]
    for one in known[::3]:
        network, recipe = reassemble(bricks, one.candidate.pick, one.treatment)
        for said, half in ((one.choosing, measures.choosing), (one.picking, measures.picking)):
            torch.testing.assert_close(said, half.logits(network, recipe.input), atol=1e-5, rtol=1e-4)
    limited = replace(task, limits={"params": bricks.chains[0].total.params - 1})
    within = [one.pick.networks[0] for one in joining.whole(limited, [0, 1, 2])]
    assert within == [c.name for m, c in enumerate(bricks.cards) if limited.within((m,) * 3)] != []
    assert "resnet" not in within


def test_a_chain_is_treated_as_the_choosing_images_say(known: list[Member], measures: Measures) -> None:
    """The best of its treatments by accuracy, then by likelihood, then the first; the others say nothing."""
    found = joining.chains(known, measures)
    assert [one.candidate.pick for one in found] == list(dict.fromkeys(one.candidate.pick for one in known))
    for design in found:
        own = [one for one in known if one.candidate == design.candidate]
        judged = [judge(one.choosing, measures.choosing.labels) for one in own]
        best = own[judged.index(max(judged))]
        assert design.treatments == (best.treatment,)
        assert design.weights == (1.0,)
        assert design.logits is best.picking
    assert len({design.treatments for design in found}) > 1
    same = [replace(one, choosing=known[0].choosing) for one in known]
    assert {one.treatments[0] for one in joining.chains(same, measures)} == {"statistics", "none"}
    _only_choosing_counts(known, lambda given: joining.chains(given, measures))


def _only_choosing_counts(known: Sequence[Member], work: Callable[[Sequence[Member]], list[Design]]) -> None:
    """What is chosen is the same, whatever networks say of the picking images."""
    other = [replace(one, picking=torch.randn_like(one.picking)) for one in known]
    choices = [[(one.candidate, one.treatments, one.weights) for one in work(given)] for given in (known, other)]
    assert choices[0] == choices[1]


def _brute_force(task: AssemblyProblem, known: Sequence[Member], measures: Measures, tails: int) -> list[list[Member]]:
    """All sets, best first, of each set of paths that with the best treatments."""
    found: dict[frozenset[tuple[int, ...]], tuple[tuple[float, float], list[Member]]] = {}
    for size in range(2, tails + 1):
        for some in combinations(known, size):
            paths = [one.path for one in some]
            alike = all(_alike(a, b) for a, b in combinations(some, 2))
            if not alike or not trees.feasible(task, paths):
                continue
            judged = judge(torch.stack([one.choosing for one in some]).mean(0), measures.choosing.labels)
            if frozenset(paths) not in found or judged > found[frozenset(paths)][0]:
                found[frozenset(paths)] = judged, list(some)
    return [some for _, some in sorted(found.values(), key=lambda entry: entry[0], reverse=True)]


def _alike(one: Member, other: Member) -> bool:
    """Blocks behind a stitch that both have are the same under both treatments."""
    blocks: dict[Treatment, str] = {"head": "statistics", "layers_and_head": "layers"}
    for length in range(2, 4):
        begins = [own.path[:length] for own in (one, other)]
        if begins[0] == begins[1] and len(set(begins[0])) > 1:
            return blocks.get(one.treatment, one.treatment) == blocks.get(other.treatment, other.treatment)
    return True


@pytest.mark.parametrize("share", [None, 1.6])
def test_the_best_trees_are_joined(
    known: list[Member], measures: Measures, task: AssemblyProblem, workshop: Workshop, share: float | None
) -> None:
    """With and without a budget, up to three tails; and they can be put together, and then say what was foreseen."""
    if share is not None:
        limit = share * max(one.candidate.cost["params"] for one in known)
        task = replace(task, limits={"params": limit})
    found = joining.Joiner(task, known, measures, 3).best(8)
    wanted = _brute_force(task, known, measures, 3)
    assert len(found) == min(8, len(wanted)) > 3
    for design, best in zip(found, wanted, strict=False):
        assert design.candidate.picks == tuple(one.candidate.pick for one in best)
        assert design.treatments == tuple(one.treatment for one in best)
        assert design.weights == (1 / len(best),) * len(best)
        assert design.candidate.cost == trees.price(task, [one.path for one in best])
        assert design.candidate.score == pytest.approx(sum(one.candidate.score for one in best) / len(best))
        assert all(design.candidate.cost[kind] <= limit for kind, limit in task.limits.items())
        network, recipe = ranking.put_together(workshop, design)
        assert design.logits is not None
        torch.testing.assert_close(measures.picking.logits(network, recipe.input), design.logits, atol=1e-4, rtol=1e-4)
    _only_choosing_counts(known, lambda given: joining.Joiner(task, given, measures, 3).best(8))


def test_tails_are_treated_alike_where_they_have_stitches_in_common(
    known: list[Member], measures: Measures, task: AssemblyProblem
) -> None:
    """(0, 1, 1) and (0, 1, 0) share a stitch and a block behind it, (0, 0, 1) and (0, 1, 1) the first block alone."""
    every = joining.Joiner(task, known, measures, 2).best(200)
    kinds = {frozenset(pick.networks for pick in one.candidate.picks): set(one.treatments) for one in every}
    together = frozenset({("resnet", "vit", "vit"), ("resnet", "vit", "resnet")})
    assert kinds[together] in ({"statistics"}, {"layers"}, {"layers_and_head"}, {"layers", "layers_and_head"})
    paths = {(0, 1, 1): "statistics", (0, 1, 0): "layers", (0, 0, 1): "layers"}
    some = [one for one in known if (one.path, one.treatment) in paths.items()]
    found = joining.Joiner(task, some, measures, 2).best(200)
    assert len(found) == 2
    assert all(("resnet", "resnet", "vit") in [pick.networks for pick in one.candidate.picks] for one in found)


@pytest.mark.parametrize(
    ("first", "others"),
    [
        ([Block("resnet", 0, 3)], True),
        ([Block("resnet", 0, 3, width=0.5)], True),
        ([Block("resnet", 0, 3, without=(1, 2))], False),
        ([Block("resnet", 0, 1, width=0.5), Block("resnet", 1, 3, width=0.5)], False),
        ([Block("resnet", 0, 1), Block("resnet", 1, 3)], True),
        ([Block("resnet", 0, 1), Block("vit", 1, 2)], False),
    ],
)
def test_what_is_behind_a_stitch_or_a_narrow_block_is_treated(
    known: list[Member], first: list[Block], others: bool
) -> None:
    """Whether tails that begin with some blocks may be treated otherwise there."""
    columns = tuple(("resnet", "vit").index(block.network) for block in first)

    def tail(last: int, treatment: Treatment) -> Member:
        pick = Pick((*first, Block("plain", 2, 3 + last)))
        return replace(
            known[0],
            candidate=replace(known[0].candidate, pick=pick),
            path=(*columns, 2 + last),
            treatment=treatment,
        )

    assert joining._agree(tail(0, "layers"), tail(1, "statistics")) == others
    assert joining._agree(tail(0, "layers"), tail(1, "layers_and_head"))
    assert joining._agree(replace(tail(0, "layers"), path=(9, 9, 9)[: len(first) + 1]), tail(1, "statistics"))


def test_every_tree_keeps_the_rules_on_sources(known: list[Member], measures: Measures, task: AssemblyProblem) -> None:
    """What every candidate has to take blocks from, every tree has to; and tails see the same images."""
    for rules in ({"required": frozenset({1})}, {"max_sources": 1}, {"excluded": frozenset({2})}):
        own = replace(task, **rules)
        for design in joining.Joiner(own, known, measures, 3).best(50):
            assert own.admits(frozenset(own.names.index(n) for pick in design.candidate.picks for n in pick.networks))
    assert joining.Joiner(replace(task, required=frozenset({1})), known, measures, 2).best(50)
    other = replace(known[0].input, mean=(0.1, 0.2, 0.3))
    apart = [replace(one, input=other if one.path[0] == 0 else one.input) for one in known]
    found = joining.Joiner(task, apart, measures, 2).best(200)
    begins = {tuple(pick.networks[0] for pick in one.candidate.picks) for one in found}
    assert begins
    assert not any("resnet" in first and len(set(first)) > 1 for first in begins)


def test_of_too_many_sets_those_grow_that_are_good(
    known: list[Member], measures: Measures, task: AssemblyProblem, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The best pair is found all the same; a triple holds one of the pairs that were kept."""
    exact = joining.Joiner(task, known, measures, 2).best(500)
    monkeypatch.setattr(joining, "EXACT", 100)
    monkeypatch.setattr(joining, "BEAM", 2)
    pairs = {frozenset(one.candidate.picks) for one in exact}
    for design in joining.Joiner(task, known, measures, 3).best(500):
        picks = design.candidate.picks
        assert len(picks) == 2 or any(frozenset(two) in pairs for two in combinations(picks, 2))
    assert joining.Joiner(task, known, measures, 2).best(1)[0].candidate == exact[0].candidate
    assert joining.Joiner(task, known[:1], measures, 3).best(5) == []
    assert joining.Joiner(task, known, measures, 1).best(5) == []


def test_every_set_of_paths_is_there_once(known: list[Member], measures: Measures, task: AssemblyProblem) -> None:
    found = joining.Joiner(task, known, measures, 3).best(10_000)
    sets = [frozenset(one.candidate.picks) for one in found]
    assert len(sets) == len(set(sets)) == len(_brute_force(task, known, measures, 3))


def test_of_many_members_whole_networks_and_the_best_others_are_joined(
    known: list[Member], measures: Measures, task: AssemblyProblem, monkeypatch: pytest.MonkeyPatch
) -> None:
    joiner = joining.Joiner(task, known, measures, 2)
    assert joiner._members({}) == list(range(len(known)))
    monkeypatch.setattr(joining, "MEMBERS", 5)
    found = joiner._members({})
    alone = [i for i, one in enumerate(known) if len(set(one.path)) == 1]
    others = sorted(set(range(len(known))) - set(alone), key=lambda i: _negative(known[i], measures))
    assert found == sorted([*alone, *others[:3]])
    used = {one.path for i, one in enumerate(known) if i in found}
    for design in joiner.best(50):
        assert {task.path(pick) for pick in design.candidate.picks} <= used


def _negative(member: Member, measures: Measures) -> tuple[float, float]:
    accuracy, likelihood = judge(member.choosing, measures.choosing.labels)
    return -accuracy, -likelihood
