import itertools
from collections.abc import Sequence

import pytest
import torch

from lib.base.errors import BrickyardError
from lib.channels.channels import Coupling
from lib.channels.coupling import couple
from lib.channels.cutting import Scales, channels, cut, indices
from lib.trace import cost, graph
from lib.trace.logits import logits
from tests import pico, unusual
from tests.mda import networks
from tests.mda.networks import BUILDERS, SHAPE

TIMM = {  # thinned where timm takes arguments for it
    "resnet26": {"layers": (1, 1, 1, 1), "channels": (8, 8, 16, 16)},
    "resnext26ts": {},
    "regnety_002": {},
    "test_efficientnet": {},
    "mobilenetv3_small_050": {},
    "densenet121": {"block_config": (2, 2), "growth_rate": 4},
}


def _coupling(model: torch.nn.Module, shape: tuple[int, ...] = SHAPE) -> Coupling:
    return couple(graph.trace(model, "net", shape), "net")


@pytest.mark.parametrize(("name", "share"), zip(BUILDERS, itertools.cycle([0.4, 0.75]), strict=False))
@torch.no_grad()
def test_cut_equals_masked(name: str, share: float) -> None:
    model, x = networks.build(name), torch.randn(3, *SHAPE, generator=torch.Generator().manual_seed(1))
    state = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    coupling = _coupling(model)
    chosen = networks.some(coupling, share)
    component = cut(model, indices(coupling, chosen), SHAPE)
    expected = networks.masked(model, coupling, chosen, x.clone())
    torch.testing.assert_close(component(x.clone()), expected, atol=1e-5 * max(1, float(expected.abs().max())), rtol=0)
    assert all(torch.equal(tensor, state[key]) for key, tensor in model.state_dict().items()), "the source was changed"
    counted, foreseen = cost.count(component, SHAPE), Scales(model, coupling).cost(chosen)
    assert (counted.params, counted.macs) == (foreseen.params, foreseen.macs)
    assert counted.params < cost.params(model)
    again = _coupling(component)  # what was cut can be taken apart again
    assert {la.name: len(la.outputs) for la in again.layers} == {
        name: len(kept) for name, kept in indices(coupling, chosen).items()
    }


@pytest.mark.parametrize("name", TIMM)
@torch.no_grad()
def test_cut_equals_masked_on_timm(name: str) -> None:
    import timm

    torch.manual_seed(0)
    model = pico.alive(timm.create_model(name, num_classes=5, **TIMM[name]))
    coupling = _coupling(model, (3, 32, 32))
    chosen = networks.some(coupling, 0.6)
    component = cut(model, indices(coupling, chosen), (3, 32, 32))
    x = torch.randn(2, 3, 32, 32)
    expected = networks.masked(model, coupling, chosen, x)
    assert (component(x) - expected).abs().max() <= 1e-5 * max(1, expected.abs().max())


@torch.no_grad()
def test_cut_equals_masked_on_torchvisions_googlenet() -> None:
    from torchvision.models import googlenet

    torch.manual_seed(0)
    model = pico.alive(googlenet(weights=None, init_weights=False, num_classes=5))
    coupling = _coupling(model, (3, 32, 32))
    chosen = networks.some(coupling, 0.3)
    x = torch.randn(2, 3, 32, 32)
    component = cut(model, indices(coupling, chosen), (3, 32, 32))
    torch.testing.assert_close(component(x), networks.masked(model, coupling, chosen, x), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["auxiliary", "drop_path", "gated", "frozen", "option_a"])
def test_a_component_learns_as_its_source_would(name: str) -> None:
    """In train mode, too, it answers what the source answers, whose layers do not look at what was taken out."""
    model = networks.build(name) if name in BUILDERS else unusual.build(name)
    coupling = _coupling(model)
    component = cut(model, indices(coupling, networks.some(coupling, 0.6)), SHAPE)
    assert not any(module.training for module in component.modules())
    whole = cut(model, {}, SHAPE)
    answers = []
    for network in (model.train(), whole.train()):
        torch.manual_seed(3)
        answers.append(logits(network(torch.rand(4, *SHAPE, generator=torch.Generator().manual_seed(1)))))
    assert torch.equal(*answers)
    assert logits(component.train()(torch.rand(4, *SHAPE))).isfinite().all()


def test_nothing_is_cut_when_everything_is_kept() -> None:
    model, x = networks.build("option_a"), torch.randn(2, *SHAPE)
    assert torch.equal(cut(model, {}, SHAPE)(x), model(x))


def test_indices_are_the_inverse_of_channels() -> None:
    coupling = _coupling(networks.build("option_a"))
    chosen = networks.some(coupling, 0.5)
    assert channels(coupling, indices(coupling, chosen)) == chosen


def test_coupled_layers_must_agree() -> None:
    model = networks.build("resnet")
    component = cut(model, {"conv": (0, 2)}, SHAPE)  # the layers of its stream go with it
    assert component.get_submodule("stages.0.0.conv2").get_parameter("weight").shape[0] == 2
    match = r"layer conv: its channels are coupled to those of other layers"
    with pytest.raises(BrickyardError, match=match):
        cut(model, {"conv": (0, 2), "stages.0.0.conv2": (2, 3)}, SHAPE)
    with pytest.raises(BrickyardError, match=r"layer conv: none of its channels would be kept"):
        cut(model, {"conv": (0, 2), "stages.0.0.conv2": (3,)}, SHAPE)


class _Half(unusual.Base):
    """A convolution that reads the second half of a layer's channels alone."""

    def __init__(self) -> None:
        super().__init__()
        self.second = torch.nn.Conv2d(3, 3, 1)

    def between(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x[:, :3], self.second(x[:, 3:])], 1)


@pytest.mark.parametrize(
    ("model", "kept", "message"),
    [
        (
            _Half(),
            {"stem.0": (0, 1)},
            "layer second: none of the channels that it reads would be kept; keep one",
        ),
        (
            unusual.Thinned(),
            {"stem.0": (0, 1), "extra": (1, 2)},
            "the network in train mode: layer stem.0: its channels are coupled to those of other layers",
        ),
    ],
)
def test_what_would_fail_later_is_refused(model: torch.nn.Module, kept: dict[str, Sequence[int]], message: str) -> None:
    with pytest.raises(BrickyardError, match=message):
        cut(model.eval(), kept, SHAPE)
