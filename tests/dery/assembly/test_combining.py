"""How tails' logits are combined, and that the maps of stacking become part of the heads."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from lib.base.errors import BrickyardError
from lib.dery.assembly import joining, ranking
from lib.dery.assembly.built import Measures
from lib.dery.assembly.joining import Joiner, Member
from lib.dery.assembly.material import Bricks
from lib.dery.assembly.workshop import Workshop
from lib.dery.combining import Combiner, folded, judge, last_layer, spoken
from lib.dery.paths.problem import AssemblyProblem, Candidate
from lib.fit import stacking
from lib.network import files, load
from lib.network.modules import ReassembledNetwork
from lib.network.reassembled import Reassembled

PRIOR = 0.1


def _spoken(known: list[Member], measures: Measures) -> list[Member]:
    """Members that say the next class instead of the right one, mostly."""
    generator = torch.Generator().manual_seed(0)

    def said(labels: torch.Tensor, classes: int) -> torch.Tensor:
        right = torch.nn.functional.one_hot((labels + 1) % classes, classes).float()
        return 4 * right + torch.randn(right.shape, generator=generator)

    halves = (measures.choosing.labels, measures.picking.labels)
    classes = known[0].choosing.shape[1]
    return [replace(one, choosing=said(halves[0], classes), picking=said(halves[1], classes)) for one in known]


@pytest.fixture
def known(bricks: Bricks, task: AssemblyProblem, measures: Measures) -> list[Member]:
    pool = [Candidate.of(task, path) for path in ((0, 1, 1), (0, 0, 1), (2, 1, 1))]
    return joining.members(Workshop(bricks, 2**30), task, pool, ("layers",), measures)


def test_stacking_is_taken_where_images_that_have_not_fitted_it_say_so(
    known: list[Member], measures: Measures, task: AssemblyProblem
) -> None:
    labels, spoken = measures.choosing.labels, _spoken(known, measures)
    for one in spoken:
        judged, by = Combiner(labels, PRIOR).best([one.choosing], True)
        assert by is not None
        assert judged == judge(stacking.out_of_fold(one.choosing[None], labels, PRIOR), labels)
        assert Combiner(labels, None).best([one.choosing], True) == (judge(one.choosing, labels), None)
        assert Combiner(labels, PRIOR).best([one.choosing], False) == (judge(one.choosing, labels), None)
    right = [replace(one, choosing=one.choosing.roll(-1, 1)) for one in spoken]
    assert Combiner(labels, PRIOR).best([one.choosing for one in right], True)[1] is None
    chains, trees = joining.chains(spoken, measures, PRIOR), Joiner(task, spoken, measures, 2, PRIOR).best(3)
    assert [one.stacked is None for one in (*chains, *trees)] == [False] * 6
    for design in (*chains, *trees):
        assert design.logits is not None
        assert judge(design.logits, measures.picking.labels)[0] > 50
    assert all(one.stacked is None for one in joining.chains(spoken, measures))
    assert all(one.stacked is None for one in Joiner(task, spoken, measures, 2).best(3))


def test_what_is_kept_has_maps_that_all_images_have_fitted(
    bricks: Bricks, known: list[Member], measures: Measures, task: AssemblyProblem
) -> None:
    """What is told of the picking images is what the choosing half alone has made of them."""
    workshop, spoken_ = Workshop(bricks, 2**30), _spoken(known, measures)
    chains, trees = joining.chains(spoken_, measures, PRIOR), Joiner(task, spoken_, measures, 2, PRIOR).best(2)
    halves = (measures.choosing, measures.picking)
    labels = torch.cat([half.labels for half in halves])
    for design in (*chains, *trees):
        settled = design.settled(measures)
        assert settled.logits is design.logits
        assert design.logits is not None
        assert design.stacked is not None
        assert settled.stacked is not None
        assert (design.stacked.images, settled.stacked.images) == (len(labels) // 2, len(labels))
        members = {(one.path, one.treatment): one for one in spoken_}
        paths = [task.path(pick) for pick in design.candidate.picks]
        tails = [members[tail] for tail in zip(paths, design.treatments, strict=True)]
        together = torch.stack([torch.cat([tail.choosing, tail.picking]) for tail in tails])
        torch.testing.assert_close(settled.stacked.maps, stacking.stack(together, labels, PRIOR).maps)
        one, both = (ranking.put_together(workshop, own)[0] for own in (design, settled))
        heads = [list(network.heads[0].parameters()) for network in (one, both)]
        assert not all(map(torch.equal, *heads))
        ranked = ranking.rank(workshop, [design], "accuracy", 1, measures, ())[0]
        assert ranked.made is not None
        assert all(map(torch.equal, heads[1], ranked.made[0].heads[0].parameters()))
        assert ranked.values["accuracy"] == judge(design.logits, measures.picking.labels)[0]
    (plain, *_) = joining.chains(spoken_, measures)
    assert plain.settled(measures) is plain
    same = replace(measures, picking=measures.choosing)
    assert chains[0].settled(same) is chains[0]


def test_maps_become_part_of_the_heads_and_are_saved(
    bricks: Bricks, known: list[Member], measures: Measures, task: AssemblyProblem, tmp_path: Path
) -> None:
    """The network of a stacked design says what was foreseen, costs what the plain one does, and is told in a line."""
    workshop, labels = Workshop(bricks, 2**30), measures.choosing.labels
    designs = [*joining.chains(known, measures), *Joiner(task, known, measures, 2).best(2)]
    paths = {one.candidate.pick: one for one in known}
    for i, design in enumerate(designs):
        tails = [paths[pick] for pick in design.candidate.picks]
        by = stacking.stack(torch.stack([one.choosing for one in tails]), labels, PRIOR)
        foreseen = by(torch.stack([one.picking for one in tails]))
        plain, told = ranking.put_together(workshop, design)
        before = [head.state_dict() for head in plain.heads]
        network, recipe = ranking.put_together(workshop, replace(design, stacked=by))
        said = measures.picking.logits(network, recipe.input)
        torch.testing.assert_close(said, foreseen, atol=2e-3 * float(foreseen.abs().max()), rtol=0)
        assert sum(p.numel() for p in network.parameters()) == sum(p.numel() for p in plain.parameters())
        assert [tail.stacked for tail in told.tails] == [None] * len(tails)
        assert {(tail.stacked.images, tail.stacked.ridge) for tail in recipe.tails if tail.stacked} == {
            (len(labels), PRIOR / len(labels))
        }
        for head, state in zip(plain.heads, before, strict=True):
            assert all(torch.equal(head.state_dict()[name], state[name]) for name in state)
        files.save(tmp_path / str(i), network, recipe)
        opened, again = load.load(tmp_path / str(i), trust=True)
        assert torch.equal(measures.picking.logits(opened, recipe.input), said)
        assert isinstance(again, Reassembled)
        assert again.tails == recipe.tails


class _Attending(nn.Module):
    """A linear layer of what is attended to is never run as a module."""

    def __init__(self) -> None:
        super().__init__()
        self.attention, self.head = nn.MultiheadAttention(3, 1, batch_first=True), nn.Linear(3, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.attention(x[:, None], x[:, None], x[:, None])[0][:, 0])


class _Double(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * x


def test_a_head_that_does_not_end_in_a_linear_layer_is_left_alone() -> None:
    x = torch.randn(4, 3)
    assert last_layer(nn.Sequential(nn.Linear(3, 2), _Double()), x) is None
    assert last_layer(nn.Sequential(nn.Linear(3, 2, bias=False)), x) is None
    plain = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2))
    assert last_layer(plain, x) is plain[2]
    attending = _Attending()
    assert last_layer(attending, x) is attending.head


@pytest.mark.parametrize(("times", "message"), [(1.0, "no last linear layer"), (float("nan"), "stacking changed")])
def test_what_folding_cannot_do_is_an_error(bricks: Bricks, times: float, message: str) -> None:
    network, recipe = Workshop(bricks, 2**30).reassemble(bricks.whole(0), "none")
    x = bricks.sample(recipe.input)
    by = stacking.stack(network(x)[None].detach(), torch.arange(len(x)) % len(recipe.classes), PRIOR)
    if times == 1:
        network = ReassembledNetwork(network.parts, [nn.Sequential(network.heads[0], _Double())], recipe)
    with pytest.raises(BrickyardError, match=message):
        folded(network, recipe, replace(by, maps=times * by.maps), x)


def test_tails_of_unequal_weight_are_folded_too(
    bricks: Bricks, measures: Measures, known: list[Member], task: AssemblyProblem
) -> None:
    design = Joiner(task, known, measures, 2).best(1)[0]
    plain, recipe = ranking.put_together(Workshop(bricks, 2**30), design)
    tails = tuple(replace(tail, weight=weight) for tail, weight in zip(recipe.tails, (0.7, 0.3), strict=True))
    recipe = replace(recipe, tails=tails)
    network = ReassembledNetwork(plain.parts, plain.heads, recipe).eval()
    x = bricks.sample(recipe.input)
    said = spoken(network, recipe, x)
    with torch.no_grad():
        torch.testing.assert_close(said.mean(0), network(x))
        by = stacking.stack(said, torch.arange(len(x)) % len(recipe.classes), PRIOR)
        made, _ = folded(network, recipe, by, x)
        torch.testing.assert_close(made(x), by(said), atol=1e-4, rtol=1e-4)
