"""Edges: each is the direct least-squares solution on the networks' own activations, and is kept, bit for bit."""

import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch.nn import functional as F

from lib.base import artifacts
from lib.base.artifacts import tensor_checksum
from lib.base.errors import BrickyardError
from lib.base.memo import Memo
from lib.chain.chain import Chain
from lib.dery.assembly import edges, fronts
from lib.dery.assembly.edges import figures, fit, load, save
from lib.dery.assembly.fronts import Fronts
from lib.dery.assembly.material import Bricks, Joint
from lib.dery.assembly.reassembly import reassemble
from lib.dery.assembly.stitching import Edge, StitchEquations, paper, random
from lib.fit import batchnorm
from lib.params.edges import Edges
from tests import pico


def fitted(bricks: Bricks, kept: Memo | None = None) -> dict[Joint, Edge]:
    """All edges; nothing is kept by default."""
    kept = kept or Memo()
    found = [edge for card in bricks.cards for edge in fit(bricks, card.name, Fronts(bricks, Memo()), kept)]
    return {edge.joint: edge for edge in found}


@pytest.fixture(scope="module")
def found(bricks: Bricks) -> dict[Joint, Edge]:
    return fitted(bricks)


def bits(found: Mapping[Joint, Edge]) -> dict[Joint, tuple[str, str, float, float]]:
    return {
        key: (tensor_checksum(edge.stitch.state_dict()), tensor_checksum(edge.matched.state_dict()), edge.r2, edge.kl)
        for key, edge in found.items()
    }


@torch.no_grad()
def crossing(bricks: Bricks, key: Joint) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Batches at both ends of an edge, each network run from its beginning."""
    ends = []
    k, source, target, shift = key
    for name, at in ((source, k), (target, k + shift)):
        m = bricks.place(name)
        ends.append([bricks.chains[m][0 : bricks.cuts[m][at]](x) for x, _ in bricks.fit[m]])
    return ends[0], ends[1]


def _ridge(x: torch.Tensor, y: torch.Tensor, ridge: float) -> tuple[torch.Tensor, torch.Tensor, float]:
    """Weight [p, q], bias [q] and R^2 of a ridge regression, by rows stacked below X."""
    centred, wanted = x - x.mean(0), y - y.mean(0)
    penalty = (ridge * centred.square().sum(0).mean()) ** 0.5 * torch.eye(x.shape[1], dtype=x.dtype)
    both = torch.cat([centred, penalty]), torch.cat([wanted, torch.zeros(x.shape[1], y.shape[1], dtype=y.dtype)])
    weight = torch.linalg.lstsq(*both).solution
    left = (centred @ weight - wanted).square().sum()
    return weight, y.mean(0) - x.mean(0) @ weight, 1 - float(left / wanted.square().sum())


@torch.no_grad()
@pytest.mark.parametrize(("rows", "window"), [(65_536, 0), (240, 1)])
def test_an_edge_is_the_direct_solution(bricks: Bricks, rows: int, window: int) -> None:
    """On all positions, and on five of each image, other ones in each batch. Grids, layouts and prefixes differ."""
    bricks = replace(bricks, joining=Edges(batch_size=16, down="pool", rows=rows, window=window))
    found = fitted(bricks)
    steps = [(1, 0), (2, 0), *([(1, 1), (2, -1)] if window else [])]
    names = [card.name for card in bricks.cards]
    assert set(found) == {
        (k, one, other, shift) for k, shift in steps for one in names for other in names if one != other
    }
    for key, edge in found.items():
        source, target = edge.stitch.source, edge.stitch.target
        inputs, outputs, images = [], [], 0
        for x, y in zip(*crossing(bricks, key), strict=True):
            height, width = target.height, target.width
            x = F.adaptive_avg_pool2d(source.to_map(x), (min(source.height, height), min(source.width, width)))
            x = F.interpolate(x, (height, width), mode="bilinear")
            places = torch.arange(target.height * target.width)
            if rows == 240 and len(places) > 5:
                places = torch.randperm(len(places), generator=torch.Generator().manual_seed(images))[:5]
            images += len(x)
            for kept, given in ((inputs, x), (outputs, target.to_map(y))):
                kept.append(given.flatten(2)[:, :, places].transpose(1, 2).flatten(0, 1).double())
        weight, bias, r2 = _ridge(torch.cat(inputs), torch.cat(outputs), 1e-4)
        assert edge.r2 == pytest.approx(r2, abs=1e-6), key
        _, given = next(iter(edge.stitch.maps()))
        torch.testing.assert_close(edge.stitch.channels.weight.flatten(1).T.double(), weight, atol=2e-3, rtol=2e-3)
        torch.testing.assert_close(given.double(), bias, atol=2e-3, rtol=2e-3)
        if edge.stitch.prefix is not None:
            x, y = (torch.cat(own) for own in crossing(bricks, key))
            weight, _, _ = _ridge(source.pool(x).double(), y[:, : target.prefix].flatten(1).double(), 1e-4)
            torch.testing.assert_close(edge.stitch.prefix.weight.T.double(), weight, atol=2e-3, rtol=2e-3)
    assert 0.01 < max(edge.r2 for edge in found.values()) < 1


@torch.no_grad()
def test_a_matched_edge_has_the_targets_moments(bricks: Bricks, found: dict[Joint, Edge]) -> None:
    for key, edge in found.items():
        x, y = (torch.cat(own) for own in crossing(bricks, key))
        made, wanted = (edge.stitch.target.to_map(one).double() for one in (edge.matched(x), y))
        torch.testing.assert_close(made.mean((0, 2, 3)), wanted.mean((0, 2, 3)), atol=1e-4, rtol=1e-3)
        spread = made.var((0, 2, 3)), wanted.var((0, 2, 3))
        alive = edge.stitch(x)
        alive = edge.stitch.target.to_map(alive).double().var((0, 2, 3)) > 1e-9  # others cannot be scaled
        torch.testing.assert_close(spread[0][alive], spread[1][alive], atol=1e-4, rtol=1e-2)


@torch.no_grad()
def test_of_two_forms_the_one_is_taken_that_fits_other_images(bricks: Bricks, found: dict[Joint, Edge]) -> None:
    chosen = []
    for key, edge in found.items():
        source, target = edge.stitch.source, edge.stitch.target
        forms = {patch: StitchEquations(source, target, patch) for patch in bricks.patches(source, target)}
        for x, y in zip(*crossing(bricks, key), strict=True):
            for form in forms.values():
                form.add(x, y)
        best = max(forms, key=lambda patch: forms[patch].held_out_r2(1e-4))
        assert edge.stitch.patch == best
        chosen.append(len(forms))
    assert max(chosen) == 2


@torch.no_grad()
@pytest.mark.parametrize("init", ["least_squares", "identity", "paper"])
def test_kl_is_that_of_the_network_with_one_stitch_in_it(
    bricks: Bricks, init: Literal["least_squares", "identity", "paper"]
) -> None:
    """Put together as candidates are, with statistics alone; from the target's own answers to its own classes."""
    bricks = replace(bricks, joining=Edges(batch_size=16, init=init))
    for (k, source, target, _), edge in fitted(bricks).items():
        m, n = bricks.place(source), bricks.place(target)
        network, _ = reassemble(bricks, bricks.pick((m,) * k + (n,) * (bricks.sets - k)), "statistics")
        chain, total = bricks.chains[n], 0.0
        for (x, _), (y, _) in zip(bricks.fit[m], bricks.fit[n], strict=True):
            for part in network.parts:
                x = part(x)
            answers = chain.head(x), chain.head(chain[0 : len(chain)](y))
            made, own = (torch.softmax(one.double(), 1) for one in answers)
            total += float((own * (own / made).log()).sum())
        assert edge.kl == pytest.approx(total / 48, rel=1e-4, abs=1e-7)
        assert edge.kl > 0


@torch.no_grad()
def test_a_candidate_begins_with_its_edge(bricks: Bricks, found: dict[Joint, Edge]) -> None:
    """Which is what would be fitted for it; behind another stitch nothing is known before."""
    known = replace(bricks, edges=found)
    for path in ((0, 1, 1), (0, 0, 2), (2, 0, 1), (1, 2, 0)):
        pick = bricks.pick(path)
        anew, without = reassemble(bricks, pick, "statistics")
        made, recipe = reassemble(known, pick, "statistics")
        k = next(k for k in range(1, 3) if path[k] != path[k - 1])
        edge = found[k, bricks.cards[path[k - 1]].name, bricks.cards[path[k]].name, 0]
        own = edge.matched if path[k] == 1 else edge.stitch  # the transformer has no BatchNorm
        assert made.parts[1].state_dict().keys() == own.state_dict().keys()
        assert all(torch.equal(v, own.state_dict()[name]) for name, v in made.parts[1].state_dict().items())
        assert recipe.parts[1]["r2"] == edge.r2
        assert [part["name"] for part in recipe.parts] == [part["name"] for part in without.parts]
        x, _ = bricks.fit[path[0]].all()
        torch.testing.assert_close(made(x), anew(x), atol=1e-3, rtol=1e-3)


def test_a_stitch_that_is_not_fitted_has_its_r2_all_the_same(bricks: Bricks, found: dict[Joint, Edge]) -> None:
    drawn = fitted(replace(bricks, joining=Edges(batch_size=16, init="random"), seed=3))
    for edge in drawn.values():
        wanted = random(edge.stitch.source, edge.stitch.target, 1, 4).state_dict()
        assert all(torch.equal(value, wanted[name]) for name, value in edge.stitch.state_dict().items())
    pooled = fitted(replace(bricks, joining=Edges(batch_size=16, down="pool")))
    assert [edge.r2 for edge in drawn.values()] == [edge.r2 for edge in pooled.values()]


@torch.no_grad()
def test_an_edge_of_the_papers_form_is_kept_as_it_was_drawn(bricks: Bricks, tmp_path: Path) -> None:
    """Its norm is settled in copies alone. With edges candidates have the bits that they have without."""
    bricks = replace(bricks, joining=Edges(batch_size=16, init="paper"), seed=3)
    found = fitted(bricks, Memo(tmp_path / "memo"))
    patched = fitted(replace(bricks, joining=Edges(batch_size=16, down="patch")))
    for key, edge in found.items():
        source, target = edge.stitch.source, edge.stitch.target
        drawn = tensor_checksum(paper(source, target, edge.stitch.patch, 4).state_dict())
        assert bits(found)[key][:2] == (drawn, drawn)
        if edge.stitch.patch == patched[key].stitch.patch:
            assert edge.r2 == patched[key].r2
    _saved(found, tmp_path)
    for again in (fitted(bricks, Memo(tmp_path / "memo")), load(bricks, tmp_path)):
        assert bits(again) == bits(found)
        assert not any(module.training for edge in again.values() for module in edge.stitch.modules())
    known = replace(bricks, edges=found)
    for path in ((0, 2, 2), (0, 1, 2)):
        anew, made = (reassemble(own, bricks.pick(path), "statistics")[0] for own in (bricks, known))
        assert tensor_checksum(anew.state_dict()) == tensor_checksum(made.state_dict())
    assert bits(found) == bits(load(bricks, tmp_path))


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Pairs that are fitted, and batches for which a network is run."""
    counted: Counter[str] = Counter()

    def counting(name: str, given: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            counted[name] += 1
            return given(*args)

        return call

    monkeypatch.setattr(edges, "_pair", counting("pairs", edges._pair))
    monkeypatch.setattr(fronts, "_run", counting("batches", fronts._run))
    return counted


def test_pairs_are_found_again(bricks: Bricks, found: dict[Joint, Edge], tmp_path: Path, calls: Counter[str]) -> None:
    kept = Memo(tmp_path)
    fitted(bricks, kept)
    assert calls["pairs"] == 6
    calls.clear()
    assert bits(fitted(bricks, kept)) == bits(found)
    assert not calls
    for other in (
        replace(bricks, seed=1),
        replace(bricks, joining=Edges(batch_size=16, ridge=1.0)),
        replace(bricks, joining=Edges(batch_size=8)),
        replace(bricks, joining=Edges(batch_size=16, rows=240)),
    ):
        calls.clear()
        fit(other, "vit", Fronts(other, Memo()), kept)
        assert calls["pairs"] == 2
    calls.clear()
    moved = replace(bricks, cuts=((0, 2, 3, 4), *bricks.cuts[1:]))
    fit(moved, "vit", Fronts(moved, Memo()), kept)
    assert calls["pairs"] == 1  # from the network that is cut elsewhere


def test_edges_that_were_interrupted_go_on_where_they_were(
    bricks: Bricks, found: dict[Joint, Edge], tmp_path: Path, calls: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was fitted before is found again, whatever the other one had done by then."""
    counting = edges._pair

    def stopped(own: Bricks, m: int, n: int, fronts: Fronts) -> list[Edge]:
        made = counting(own, m, n, fronts)
        if m == 2:
            raise KeyboardInterrupt
        return made

    monkeypatch.setattr(edges, "_pair", stopped)
    with pytest.raises(KeyboardInterrupt):
        fit(bricks, "vit", Fronts(bricks, Memo(tmp_path / "fronts")), Memo(tmp_path / "edges"))
    monkeypatch.setattr(edges, "_pair", counting)
    calls.clear()
    made = fit(bricks, "vit", Fronts(bricks, Memo(tmp_path / "fronts")), Memo(tmp_path / "edges"))
    assert calls == {"pairs": 1}  # and no network is run again to its cuts
    again = {edge.joint: edge for edge in made}
    assert bits(again) == bits({key: edge for key, edge in found.items() if key[2] == "vit"})


def test_a_grown_zoo_fits_what_is_new(bricks: Bricks, tmp_path: Path, calls: Counter[str]) -> None:
    few = replace(bricks, cards=bricks.cards[1:], chains=bricks.chains[1:], cuts=bricks.cuts[1:], fit=bricks.fit[1:])
    before = fit(few, "vit", Fronts(few, Memo()), Memo(tmp_path))
    calls.clear()
    after = fit(bricks, "vit", Fronts(bricks, Memo()), Memo(tmp_path))
    assert calls["pairs"] == 1
    old = {edge.joint: edge for edge in after if edge.source == "plain"}
    assert bits(old) == bits({edge.joint: edge for edge in before})


@torch.no_grad()
def test_fronts_are_run_once(bricks: Bricks, tmp_path: Path, calls: Counter[str]) -> None:
    kept = Fronts(bricks, Memo(tmp_path))
    for m, chain in enumerate(bricks.chains):
        for (crossed, logits), (x, _) in zip(kept.of(m), bricks.fit[m], strict=True):
            for cut, y in zip(bricks.cuts[m][1:-1], crossed, strict=True):
                assert torch.equal(y, chain[0:cut](x))
            assert torch.equal(logits, chain.head(chain[0 : len(chain)](x)))
    assert calls["batches"] == 9
    calls.clear()
    first = [[y for crossed, _ in Fronts(bricks, Memo(tmp_path)).of(m) for y in crossed] for m in range(3)]
    assert not calls
    sorted(tmp_path.iterdir())[4].unlink()
    again = [[y for crossed, _ in Fronts(bricks, Memo(tmp_path)).of(m) for y in crossed] for m in range(3)]
    assert calls["batches"] == 1
    for one, other in zip(first, again, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(one, other, strict=True))


def test_edges_survive_the_disk(bricks: Bricks, found: dict[Joint, Edge], tmp_path: Path) -> None:
    _saved(found, tmp_path)
    again = load(bricks, tmp_path)
    assert bits(again) == bits(found)
    assert not any(module.training for edge in again.values() for module in edge.stitch.modules())
    told = figures([edge for edge in found.values() if edge.target == "vit"])
    assert told["behind_2"]["plain"] == {"r2": found[2, "plain", "vit", 0].r2, "kl": found[2, "plain", "vit", 0].kl}
    few = replace(bricks, cards=bricks.cards[:2], chains=bricks.chains[:2], cuts=bricks.cuts[:2], fit=bricks.fit[:2])
    assert bits(load(few, tmp_path)) == bits({key: edge for key, edge in found.items() if "plain" not in key})


def _saved(found: Mapping[Joint, Edge], folder: Path) -> None:
    for target in dict.fromkeys(key[2] for key in found):
        save(folder / target, target, [edge for edge in found.values() if edge.target == target])


def _json(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        told = artifacts.read_json(folder / "vit" / "edges.json")
        change(told)
        artifacts.write_json(folder / "vit" / "edges.json", told)

    return edit


def _tensors(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        tensors = artifacts.read_tensors(folder / "vit" / "edges.safetensors")
        change(tensors)
        artifacts.write_tensors(folder / "vit" / "edges.safetensors", tensors)

    return edit


@pytest.mark.parametrize(
    ("damage", "line"),
    [
        (lambda folder: shutil.rmtree(folder / "vit"), r"vit/edges\.json not found"),
        (lambda folder: (folder / "vit/edges.safetensors").unlink(), r"edges\.safetensors not found"),
        (lambda folder: (folder / "vit/edges.json").write_text("{"), r"edges\.json is not valid JSON"),
        (lambda folder: (folder / "vit/edges.safetensors").write_bytes(b"no"), r"edges\.safetensors is damaged"),
        (lambda folder: shutil.copytree(folder / "plain", folder / "vit", dirs_exist_ok=True), "the edges to plain;"),
        (_json(lambda told: told.update(target=3)), r"is not what this code writes \(target: "),
        (_json(lambda told: told["edges"].pop()), "has no edge from resnet behind set 2; dvc repro"),
        (_json(lambda told: told["edges"][0].update(colour="red")), r"is not what this code writes \(edges\.0\.colour"),
        (_tensors(lambda own: own.pop("resnet.2.stitch.channels.weight")), "its edge from resnet behind set 2 is"),
        (_tensors(lambda own: own.update({"plain.1.patch": torch.tensor([1, 2])})), "its edge from plain behind set 1"),
        (
            _tensors(lambda own: own.update({"plain.1.told": torch.zeros(3)})),
            "its edge from plain behind set 1 is anot",
        ),
        (
            _tensors(lambda own: own.update({"plain.1.matched.channels.weight": torch.zeros(3, 3, 1, 1)})),
            "its edge from plain behind set 1 is another's; dvc repro",
        ),
    ],
)
def test_what_is_wrong_is_one_line(
    bricks: Bricks, found: dict[Joint, Edge], tmp_path: Path, damage: Callable[[Path], object], line: str
) -> None:
    _saved(found, tmp_path)
    damage(tmp_path)
    with pytest.raises(BrickyardError, match=line) as caught:
        load(bricks, tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_edges_of_other_cuts_are_refused(bricks: Bricks, found: dict[Joint, Edge], tmp_path: Path) -> None:
    _saved(found, tmp_path)
    with pytest.raises(BrickyardError, match=r"its edge from \w+ behind set 2 is another's"):
        load(replace(bricks, cuts=((0, 1, 2, 4), *bricks.cuts[1:])), tmp_path)


@pytest.mark.parametrize(
    ("where", "line"),
    [
        ("front", "plain cannot be joined to vit: activations are"),
        ("head", "resnet cannot be joined to plain: answers"),
    ],
)
@torch.no_grad()
def test_networks_that_are_not_finite_are_one_line(bricks: Bricks, where: str, line: str, tmp_path: Path) -> None:
    model = deepcopy(bricks.chains[2]._model)
    chain = Chain("plain", model, pico.IMAGE)
    damaged = [module for module in model.modules() if isinstance(module, torch.nn.Conv2d | torch.nn.Linear)]
    damaged[0 if where == "front" else -1].weight[0] = float("inf")
    own = replace(bricks, chains=(*bricks.chains[:2], chain))
    with pytest.raises(BrickyardError, match=line) as caught:
        fit(own, "vit" if where == "front" else "plain", Fronts(own, Memo()), Memo(tmp_path))
    assert str(caught.value).endswith("are not finite; leave one of them out")
    assert len(list(tmp_path.iterdir())) <= 1  # nothing of this pair is kept


@torch.no_grad()
def test_a_stitch_to_a_networks_own_twin_costs_nothing(bricks: Bricks) -> None:
    """But for what its BatchNorm statistics on these images are worth beside its own."""
    m, chain, cuts = 0, bricks.chains[0], bricks.cuts[0]
    own = replace(
        bricks,
        cards=(bricks.cards[m], replace(bricks.cards[m], name="twin")),
        chains=(chain, chain),
        cuts=(cuts, cuts),
        fit=(bricks.fit[m], bricks.fit[m]),
        joining=Edges(batch_size=16, ridge=1e-8),
    )
    x = [x for x, _ in bricks.fit[m]]
    for edge in fit(own, "twin", Fronts(own, Memo()), Memo()):
        front, back = chain[0 : cuts[edge.boundary]], deepcopy(chain[cuts[edge.boundary] : len(chain)])
        batchnorm.batchnorm(back, (front(one) for one in x))
        made = torch.cat([chain.head(back(front(one))) for one in x]).log_softmax(1)
        given = torch.cat([chain.head(chain[0 : len(chain)](one)) for one in x]).log_softmax(1)
        expected = float((given.exp() * (given - made)).sum(1).mean())
        assert edge.r2 == pytest.approx(1, abs=1e-4)
        assert edge.kl == pytest.approx(expected, rel=1e-2)
