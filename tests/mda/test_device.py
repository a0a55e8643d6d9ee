"""What MDA computes on another device is what the CPU computes."""

from collections.abc import Iterator
from copy import deepcopy

import pytest
import torch
from torch.nn import functional as F

from lib.channels.coupling import couple
from lib.channels.cutting import cut, indices
from lib.mda.components.repair import repair
from lib.mda.contributions.scores import gather
from lib.params.components import Repair
from lib.params.contributions import Contributions
from lib.trace import graph
from tests.elsewhere import DEVICE, Elsewhere, Real
from tests.mda import networks
from tests.mda.networks import SHAPE

PARAMS = {
    "images_per_class": 8,
    "batch_size": 8,
    "conv": {"alpha": 0.3, "beta": 0.2},
    "linear": {"alpha": 0.4, "beta": 0.3},
}


@pytest.fixture(params=["emulated", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> torch.device:
    return DEVICE if request.param == "emulated" else torch.device("cuda", 0)


@pytest.fixture
def mode(device: torch.device) -> Iterator[Elsewhere | Real]:
    with torch.no_grad(), Elsewhere() if device == DEVICE else Real() as mode:
        yield mode


def _images(n: int) -> torch.Tensor:
    noise = torch.randn(n, 3, 4, 4, generator=torch.Generator().manual_seed(3))
    return F.interpolate(noise, SHAPE[1:], mode="bicubic")


@pytest.mark.parametrize("name", ["resnet", "transformer", "grouped"])
def test_contributions_cut_and_repair(name: str, mode: Elsewhere | Real, device: torch.device) -> None:
    model = networks.build(name)
    there = deepcopy(model).to(device)
    coupling, x = couple(graph.trace(model, name, SHAPE), name), _images(48)
    params = Contributions.model_validate({"models": ["a"], **PARAMS})
    batches = {0: [(x[:8], torch.zeros(8, dtype=torch.long))], 1: [(x[8:16], torch.ones(8, dtype=torch.long))]}
    found, expected = (gather(own, coupling, batches, params, 0, name) for own in (there, model))
    for output in expected.scores:
        torch.testing.assert_close(found.scores[output].cpu(), expected.scores[output])
    assert mode.ran["convolution"] > 0
    chosen = networks.some(coupling, 0.6) | set(coupling.classifier.outputs)
    kept = indices(coupling, chosen)
    mode.ran.clear()
    made = [
        repair(own, cut(own, kept, SHAPE), kept, images, Repair(joint=0))
        for own, images in ((there, x.to(device)), (model, x))
    ]
    assert mode.ran["convolution"] > 0
    wanted = made[1](x)
    torch.testing.assert_close(made[0](x.to(device)).cpu(), wanted, atol=1e-3 * float(wanted.abs().max()), rtol=1e-3)
