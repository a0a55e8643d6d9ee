import itertools
from collections.abc import Sequence

import pytest
import torch
from torch.nn import functional as F

from lib.base.errors import BrickyardError
from lib.channels.channels import Coupling
from lib.channels.coupling import couple
from lib.channels.cutting import Scales, channels, cut, indices
from lib.network.scaling import Scaling, fold
from lib.trace import cost, graph
from lib.trace.duplicate import duplicate
from lib.trace.logits import logits
from lib.trace.subnetwork import Part
from tests import pico, thinned, unusual
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


@pytest.mark.parametrize(("name", "share"), thinned(zip(BUILDERS, itertools.cycle([0.4, 0.4, 0.75, 0.75])), 2))
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


class _Blurred(unusual.Base):
    """Blurs wide maps alone; its classifier starts at zero, as many do, where no difference is seen."""

    def __init__(self, training_only: bool = False) -> None:
        super().__init__()
        self.training_only = training_only
        torch.nn.init.zeros_(self.fc.weight)
        torch.nn.init.zeros_(self.fc.bias)

    def between(self, x: torch.Tensor) -> torch.Tensor:
        wide = x.shape[1] >= 6 and (self.training or not self.training_only)
        return F.avg_pool2d(self.extra(x), 3, 1, 1) if wide else self.extra(x)


@torch.no_grad()
def test_a_component_is_built_as_it_was_cut_whatever_the_weights_are() -> None:
    trained = pico.alive(_Blurred())
    torch.nn.init.normal_(trained.fc.weight)
    coupling = _coupling(trained)
    chosen = networks.some(coupling, 0.5) | {*coupling.classifier.outputs}
    kept, x = indices(coupling, chosen), torch.rand(4, *SHAPE)
    made, again = cut(trained, kept, SHAPE), cut(_Blurred().eval(), kept, SHAPE)
    again.load_state_dict(made.state_dict())
    torch.testing.assert_close(made(x), networks.masked(trained, coupling, chosen, x))
    assert torch.equal(made(x), again(x))


@torch.no_grad()
def test_what_a_network_does_with_numbers_of_channels_in_train_mode_alone_stays() -> None:
    model = pico.alive(_Blurred(training_only=True))
    torch.nn.init.normal_(model.fc.weight)
    coupling = _coupling(model)
    made = cut(model, indices(coupling, networks.some(coupling, 0.5) | {*coupling.classifier.outputs}), SHAPE)
    x = torch.rand(2, *SHAPE)
    for module in made.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 0
    blurred = made.train()(x)
    for module in made.modules():  # the branch alone differs between the modes
        module.training = isinstance(module, torch.nn.BatchNorm2d)
    assert not torch.allclose(blurred, made(x))


class _ByFunction(torch.nn.Linear):
    """As timm's."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return F.linear(input, self.weight, self.bias)


class _Ghost(unusual.Base):
    """Half of its channels are made from the other half, a number written in as code; its head calls a function."""

    def __init__(self, bias: bool = True) -> None:
        super().__init__()
        self.cheap = torch.nn.Conv2d(6, 6, 3, padding=1, groups=6)
        self.hidden, self.fc = _ByFunction(12, 10), _ByFunction(10, 4, bias=bias)

    def between(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x, self.cheap(x)], 1)[:, 3:9]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.body(self.between(self.stem(x))).mean((2, 3))
        return self.fc(F.relu(self.hidden(x)))


@pytest.mark.parametrize("bias", [True, False])
@torch.no_grad()
def test_layers_that_call_functions_are_layers_in_a_graph_too(bias: bool) -> None:
    torch.manual_seed(0)
    model = pico.alive(_Ghost(bias))
    coupling = _coupling(model)
    component = cut(model, indices(coupling, networks.some(coupling, 0.6) | {*coupling.classifier.outputs}), SHAPE)
    assert isinstance(component, Part)
    again, fc = _coupling(component), component.get_submodule("fc")
    assert again.classifier.name == "fc"
    assert isinstance(fc, torch.nn.Linear)
    assert fc.out_features == 4
    assert isinstance(fc, torch.nn.Linear)
    assert [layer.name for layer in again.layers] == [layer.name for layer in coupling.layers]
    x = torch.rand(2, *SHAPE)
    before = component(x)
    fold(fc, Scaling((2.0,) * 4, (1.0, 0.0, -1.0, 3.0)))  # a bias that it lacks included
    torch.testing.assert_close(component(x), 2 * before + torch.tensor([1.0, 0.0, -1.0, 3.0]))
    torch.testing.assert_close(duplicate(component)(x), component(x))


class _Unbiased(_Ghost):
    """It has a bias that it does not use."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.body(self.between(self.stem(x))).mean((2, 3))
        return F.linear(F.relu(self.hidden(x)), self.fc.weight)


def test_weights_that_are_not_used_do_not_come_with_their_layer() -> None:
    component = cut(_Unbiased().eval(), {"stem.0": (0, 1, 3, 4, 5)}, SHAPE)
    names = {name.rpartition(".")[2] for name in component.state_dict() if name.startswith("fc.")}
    assert names == {"weight"}


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
