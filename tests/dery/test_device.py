"""What DeRy computes on another device is what the CPU computes, and all that is heavy runs there."""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from lib.base.memo import Memo
from lib.chain.chain import Chain
from lib.dery import activations, recording
from lib.dery.assembly import edges, forms
from lib.dery.assembly.fronts import Fronts
from lib.dery.assembly.grove import Grove
from lib.dery.assembly.material import Bricks
from lib.dery.assembly.reassembly import reassemble
from lib.dery.combining import spoken
from lib.dery.similarity.layers import Network
from lib.dery.similarity.matrix import matrix
from lib.images.data import DataSet, Loader
from lib.params.assembly import Treatment
from lib.params.similarity import Similarity
from tests import pico
from tests.elsewhere import DEVICE, Elsewhere, Real


@pytest.fixture(params=["emulated", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> torch.device:
    return DEVICE if request.param == "emulated" else torch.device("cuda", 0)


@pytest.fixture
def mode(device: torch.device) -> Iterator[Elsewhere | Real]:
    with torch.no_grad(), Elsewhere() if device == DEVICE else Real() as mode:
        yield mode


@pytest.fixture
def there(bricks: Bricks, images: DataSet, mode: Elsewhere | Real, device: torch.device) -> Bricks:
    """The same zoo on the device."""
    loaders = tuple(
        Loader(replace(one.images, device=device), one.index, one.transform, one.batch_size) for one in bricks.fit
    )
    models = [deepcopy(chain._model) for chain in bricks.chains]
    chains = tuple(Chain(card.name, own, pico.IMAGE).to(device) for card, own in zip(bricks.cards, models, strict=True))
    return replace(bricks, chains=chains, fit=loaders, labelled=loaders)


def same(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found.cpu(), expected.cpu(), atol=1e-5, rtol=1e-4)


def test_the_device_refuses_what_a_real_one_refuses(mode: Elsewhere | Real, device: torch.device) -> None:
    with pytest.raises(RuntimeError, match="mixes"):
        torch.add(torch.ones(2, device=device), torch.ones(2))
    assert torch.ones(2, device=device).device == device


def test_activations_and_similarity(
    bricks: Bricks, there: Bricks, mode: Elsewhere | Real, device: torch.device, tmp_path: Path
) -> None:
    for name, own in (("cpu", bricks), ("there", there)):
        for card, chain, loader in zip(own.cards, own.chains, own.fit, strict=True):
            recording.record(tmp_path / name / card.name, chain, loader, loader.index)
    names = [card.name for card in bricks.cards]
    found, expected = (activations.load(tmp_path / name, names) for name in ("there", "cpu"))
    for one, other in zip(found, expected, strict=True):
        for a, b in zip(one.layers, other.layers, strict=True):
            same(a, b)
    assert mode.ran["convolution"] > 0
    mode.ran.clear()
    params = Similarity(index="cka", bandwidth=0.8, variance=0.99, batch_images=None)
    same(
        matrix([Network.of(net, device) for net in found], params, 2**30),
        matrix([Network.of(net) for net in expected], params, 2**30),
    )
    assert mode.ran["mm"] + mode.ran["addmm_"] > 0


@pytest.mark.parametrize("init", ["least_squares", "paper", "identity"])
def test_edges(bricks: Bricks, there: Bricks, device: torch.device, init: str) -> None:
    own = bricks.joining.model_copy(update={"init": init})
    found, expected = (
        edges.fit(one, "vit", Fronts(one, Memo()), Memo())
        for one in (replace(there, joining=own), replace(bricks, joining=own))
    )
    for one, other in zip(found, expected, strict=True):
        assert one.joint == other.joint
        assert (one.r2, one.kl) == pytest.approx((other.r2, other.kl), rel=1e-4, abs=1e-5)
        for a, b in zip(one.stitch.parameters(), other.stitch.parameters(), strict=True):
            assert a.device == device
            same(a, b)


@pytest.mark.parametrize("treatment", ["none", "statistics", "layers", "layers_and_head"])
@pytest.mark.parametrize("networks", [("resnet", "vit", "vit"), ("vit", "resnet", "plain")])
def test_candidates(
    bricks: Bricks,
    there: Bricks,
    mode: Elsewhere | Real,
    device: torch.device,
    networks: tuple[str, ...],
    treatment: Treatment,
) -> None:
    pick = bricks.pick([bricks.place(name) for name in networks])
    mode.ran.clear()
    found, expected = (reassemble(one, pick, treatment) for one in (there, bricks))
    assert all(tensor.device == device for tensor in found[0].state_dict().values())
    assert mode.ran["convolution"] > 0
    x = bricks.sample(bricks.cards[0].input)
    wanted, made = expected[0](x), found[0](x.to(device))
    torch.testing.assert_close(made.cpu(), wanted, atol=2e-3 * float(wanted.abs().max()), rtol=1e-2)
    torch.testing.assert_close(spoken(*found, x.to(device)).mean(0), made.cpu())
    answers = [
        Grove.of(one, {"made": made}).answers(lambda _, one=one: one.fit[0])["made"]
        for one, made in ((there, found), (bricks, expected))
    ]
    torch.testing.assert_close(*answers, atol=2e-3 * float(wanted.abs().max()), rtol=1e-2)


def test_nodes_left_out(bricks: Bricks, there: Bricks) -> None:
    found, expected = (forms.skipped(one, "resnet", Fronts(one, Memo())) for one in (there, bricks))
    assert [(one.block, one.r2, one.kl) for one in found] == [
        (one.block, pytest.approx(one.r2, rel=1e-4), pytest.approx(one.kl, rel=1e-3, abs=1e-5)) for one in expected
    ]


def test_a_chain_moves_with_what_it_made_while_it_was_traced(mode: Elsewhere | Real, device: torch.device) -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Conv2d(3, 4, 3), nn.Linear(4, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.first(x) * torch.tensor([1.0, 2.0, 3.0, 4.0])[:, None, None]
            return self.last(x.mean((2, 3)))

    model, x = Scaled().eval(), torch.rand(2, *pico.IMAGE)
    wanted = model(x)
    chain = Chain("scaled", model, pico.IMAGE).to(device)
    same(chain.head(chain[0 : len(chain)](x.to(device))), wanted)
