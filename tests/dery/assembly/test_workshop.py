"""A workshop gives what `reassemble` gives, and fits nothing twice: not for other candidates, not in another run."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch

from lib.base.artifacts import tensor_checksum
from lib.base.memo import Memo
from lib.dery.assembly import edges, reassembly
from lib.dery.assembly.fronts import Fronts
from lib.dery.assembly.material import Bricks
from lib.dery.assembly.reassembly import Made, reassemble
from lib.dery.assembly.workshop import Workshop
from lib.images.data import Loader
from lib.params.assembly import Treatment
from lib.params.edges import Edges
from tests import pico

HOWS: tuple[Treatment, ...] = get_args(Treatment)
PATHS = [(0, 1, 0), (0, 0, 2), (2, 1, 1), (1, 1, 1), (2, 2, 2)]  # plain, network 2, does not know the task
FITS = ("_joined", "refit_run", "refit", "fit_head")
MEMORY = 2**30


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often something is fitted, by what does it."""
    found: Counter[str] = Counter()

    def counted(name: str, given: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            found[name] += 1
            return given(*args, **kwargs)

        return call

    for module, names in ((reassembly, FITS), (reassembly.batchnorm, ("batchnorm",))):
        for name in names:
            monkeypatch.setattr(module, name, counted(name, getattr(module, name)))
    return found


def bits(made: Made) -> tuple[str, object]:
    network, recipe = made
    return tensor_checksum(network.state_dict()), recipe


@torch.no_grad()
@pytest.mark.parametrize(("memory", "joined"), [(0, 7), (MEMORY, 5)])
def test_what_candidates_begin_with_is_fitted_once(
    bricks: Bricks, memory: int, joined: int, calls: Counter[str]
) -> None:
    """And gives the same networks, whatever it had to forget."""
    workshop, x = Workshop(bricks, memory), torch.rand(2, *pico.IMAGE)
    paths = [(0, 1, 0), (0, 1, 2), (0, 1, 1), (2, 2, 1), (0, 1, 0)]
    found = [workshop.reassemble(bricks.pick(path), "layers") for path in paths]
    assert calls["_joined"] == calls["refit_run"] == joined
    for path, (network, recipe) in zip(paths, found, strict=True):
        alone, told = reassemble(bricks, bricks.pick(path), "layers")
        assert told == recipe
        assert torch.equal(network(x), alone(x))


def test_treatments_share_what_they_do_alike(bricks: Bricks, calls: Counter[str]) -> None:
    workshop, pick = Workshop(bricks, MEMORY), bricks.pick((0, 1, 0))
    made = {how: workshop.reassemble(pick, how)[0] for how in HOWS}
    assert calls == {"_joined": 6, "refit_run": 2, "refit": 2, "batchnorm": 2}  # two stitches; blocks of three kinds
    parts = {how: list(network.parts) for how, network in made.items()}
    assert parts["layers"] == parts["layers_and_head"]  # the modules themselves
    assert parts["statistics"] == parts["head"]
    assert len({id(own[0]) for own in parts.values()}) == 1
    for how in HOWS:
        alone, _ = reassemble(bricks, pick, how)
        assert tensor_checksum(made[how].state_dict()) == tensor_checksum(alone.state_dict())


def test_a_new_head_has_nothing_to_be_refitted_to(bricks: Bricks, calls: Counter[str]) -> None:
    workshop, pick = Workshop(bricks, MEMORY), bricks.pick((0, 0, 2))
    layers, both = (workshop.reassemble(pick, how) for how in ("layers", "layers_and_head"))
    assert layers is both
    assert calls["fit_head"] == 1
    whole = [workshop.reassemble(bricks.whole(2), how) for how in HOWS]
    assert all(one is whole[0] for one in whole)
    assert calls["fit_head"] == 2


def test_another_workshop_finds_all_that_was_fitted(bricks: Bricks, tmp_path: Path, calls: Counter[str]) -> None:
    wanted = list(product(PATHS, HOWS))

    def made(kept: Memo) -> list[tuple[str, object]]:
        workshop = Workshop(bricks, MEMORY, kept)
        return [bits(workshop.reassemble(bricks.pick(path), how)) for path, how in wanted]

    first = made(Memo(tmp_path))
    assert set(calls) == {*FITS, "batchnorm"}
    calls.clear()
    again = made(Memo(tmp_path))
    assert not calls
    alone = [bits(reassemble(bricks, bricks.pick(path), how)) for path, how in wanted]
    assert first == again
    for (path, _), one, other in zip(wanted, first, alone, strict=True):
        assert one[0] == other[0]
        assert one[1] == other[1], path


def test_a_pool_that_was_interrupted_goes_on_where_it_was(
    bricks: Bricks, tmp_path: Path, calls: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped while the blocks behind the second stitch of its second candidate are refitted."""
    counting, left = reassembly.refit_run, 3

    def stopped(*arguments: Any) -> Any:
        nonlocal left
        left -= 1
        if not left:
            raise KeyboardInterrupt
        return counting(*arguments)

    paths = [(0, 1, 1), (0, 2, 0)]
    alone = [bits(reassemble(bricks, bricks.pick(path), "layers")) for path in paths]
    monkeypatch.setattr(reassembly, "refit_run", stopped)
    workshop = Workshop(bricks, MEMORY, Memo(tmp_path))
    workshop.reassemble(bricks.pick(paths[0]), "layers")
    with pytest.raises(KeyboardInterrupt):
        workshop.reassemble(bricks.pick(paths[1]), "layers")
    monkeypatch.setattr(reassembly, "refit_run", counting)
    calls.clear()
    workshop = Workshop(bricks, MEMORY, Memo(tmp_path))
    assert [bits(workshop.reassemble(bricks.pick(path), "layers")) for path in paths] == alone
    assert calls == {"_joined": 1, "refit_run": 1}


def test_another_candidate_or_treatment_fits_what_is_new(bricks: Bricks, tmp_path: Path, calls: Counter[str]) -> None:
    Workshop(bricks, MEMORY, Memo(tmp_path)).reassemble(bricks.pick((0, 1, 0)), "layers")
    calls.clear()
    Workshop(bricks, MEMORY, Memo(tmp_path)).reassemble(bricks.pick((0, 1, 2)), "layers")
    assert calls == {"_joined": 1, "refit_run": 1, "fit_head": 1}
    calls.clear()
    Workshop(bricks, MEMORY, Memo(tmp_path)).reassemble(bricks.pick((0, 1, 0)), "layers_and_head")
    assert calls == {"refit": 1}
    calls.clear()
    Workshop(replace(bricks, head_shrinkage=0.1), MEMORY, Memo(tmp_path)).reassemble(bricks.pick((0, 1, 2)), "layers")
    assert calls == {"fit_head": 1}


def test_what_other_bits_come_from_is_fitted_anew(bricks: Bricks, tmp_path: Path, calls: Counter[str]) -> None:
    pick = bricks.pick((0, 1, 1))
    Workshop(bricks, MEMORY, Memo(tmp_path)).reassemble(pick, "layers")
    fit = tuple(Loader(one.images, np.arange(40), one.transform, one.batch_size) for one in bricks.fit)
    others = {
        "pull": replace(bricks, pull=1.0),
        "seed": replace(bricks, seed=1),
        "ridge": replace(bricks, joining=Edges(batch_size=16, ridge=1.0)),
        "rows": replace(bricks, joining=Edges(batch_size=16, rows=240)),
        "images": replace(bricks, fit=fit),
        "weights": replace(bricks, cards=(replace(bricks.cards[0], checksum="a" * 64), *bricks.cards[1:])),
        "cuts": replace(bricks, cuts=((0, 2, 3, 4), *bricks.cuts[1:])),
    }
    for what, other in others.items():
        calls.clear()
        Workshop(other, MEMORY, Memo(tmp_path)).reassemble(other.pick((0, 1, 1)), "layers")
        assert calls["_joined"] == 1, what
    calls.clear()
    Workshop(bricks, MEMORY, Memo(tmp_path)).reassemble(pick, "layers")
    assert not calls


def test_an_edge_that_was_fitted_otherwise_is_another_beginning(bricks: Bricks, tmp_path: Path) -> None:
    """Whatever the settings say now: edges on disk may be older."""
    made = list[str]()
    for scale in (1.0, 2.0):
        every = edges.fit(bricks, bricks.cards[1].name, Fronts(bricks, Memo()), Memo())
        edge = next(one for one in every if (one.boundary, one.source) == (1, "resnet"))
        with torch.no_grad():
            for weights in edge.stitch.parameters():
                weights.mul_(scale)
        own = replace(bricks, edges={edge.joint: edge})
        found = Workshop(own, MEMORY, Memo(tmp_path)).reassemble(own.pick((0, 1, 1)), "none")
        made.append(bits(found)[0])
        assert made[-1] == bits(reassemble(own, own.pick((0, 1, 1)), "none"))[0]
    assert made[0] != made[1]


def test_damaged_files_are_made_anew(bricks: Bricks, tmp_path: Path, calls: Counter[str]) -> None:
    def made() -> Made:
        return Workshop(bricks, MEMORY, Memo(tmp_path)).reassemble(bricks.pick((0, 1, 2)), "layers")

    first = bits(made())
    for file in tmp_path.iterdir():
        file.write_bytes(file.read_bytes()[:-8] + b"damaged!")
    calls.clear()
    assert bits(made()) == first
    assert calls == {"_joined": 2, "refit_run": 2, "fit_head": 1}


def test_networks_of_a_workshop_are_in_eval_mode(bricks: Bricks, tmp_path: Path) -> None:
    for _ in range(2):  # fitted, then found
        network, _ = Workshop(bricks, MEMORY, Memo(tmp_path)).reassemble(bricks.pick((0, 2, 1)), "layers_and_head")
        assert not any(module.training for module in network.modules())
