import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from lib.base import artifacts
from lib.base.errors import BrickyardError
from lib.channels.coupling import couple
from lib.channels.cutting import cut, indices
from lib.fit import joint
from lib.mda.components.repair import repair
from lib.params.components import Repair
from lib.trace import graph
from tests import thinned
from tests.mda import networks
from tests.mda.networks import BUILDERS, SHAPE


def _images(n: int, seed: int = 3) -> torch.Tensor:
    """Smooth images: neighbouring pixels agree, so that channels can stand in for one another."""
    noise = torch.randn(n, 3, 4, 4, generator=torch.Generator().manual_seed(seed))
    return nn.functional.interpolate(noise, SHAPE[1:], mode="bicubic")


def _component(name: str, share: float) -> tuple[nn.Module, nn.Module, dict[str, tuple[int, ...]]]:
    model = networks.build(name)
    coupling = couple(graph.trace(model, name, SHAPE), name)
    chosen = networks.some(coupling, share) | set(coupling.classifier.outputs)
    kept = indices(coupling, chosen)
    return model, cut(model, kept, SHAPE), kept


@pytest.mark.parametrize("name", thinned(BUILDERS, 2, first=1))
@torch.no_grad()
def test_repaired_follows_the_source_more_closely(name: str) -> None:
    model, component, kept = _component(name, 0.6)
    before = artifacts.tensor_checksum(component.state_dict())
    x, new = _images(200), _images(100, 4)
    repaired = repair(model, component, kept, x, Repair())
    errors = [(network(new.clone()) - model(new.clone())).square().mean() for network in (component, repaired)]
    assert errors[1] < 0.6 * errors[0]
    assert artifacts.tensor_checksum(component.state_dict()) == before, "the component was changed"


@pytest.mark.parametrize("name", thinned(BUILDERS, 2))
@torch.no_grad()
def test_a_whole_network_needs_no_repair(name: str) -> None:
    model, component, kept = _component(name, 1.0)
    x = _images(64)
    for method in ("ridge", "bn"):
        repaired = repair(model, component, kept, x, Repair(method=method))
        expected = model(x.clone())
        assert (repaired(x.clone()) - expected).square().mean().sqrt() < 1e-3 * expected.abs().max()


def test_a_linear_layer_is_fitted_in_closed_form() -> None:
    """min ||X W + b - Y||^2 + lambda ||W - W0||^2 over the inputs that are left, solved by hand."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 6), nn.ReLU(), nn.Linear(6, 3)).eval()
    kept = {"1": (0, 2, 5), "3": (0, 1, 2)}
    x = torch.randn(50, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    component = cut(model, kept, (3, 2, 2))
    repaired = repair(model, component, kept, x, Repair(ridge=0.1, steps=0, joint=0, classifier="logits"))
    with torch.no_grad():
        hidden, goal = model[:3](x).double()[:, [0, 2, 5]], model(x).double()
    start = model[3].get_parameter("weight").detach().double()[:, [0, 2, 5]].T
    centred = hidden - hidden.mean(0)
    gram = centred.T @ centred
    penalty = 0.1 * gram.diagonal().mean() * torch.eye(3).double()
    weight = torch.linalg.solve(gram + penalty, centred.T @ goal + penalty @ start)
    last: Any = repaired.get_submodule("3")
    torch.testing.assert_close(last.weight.double(), weight.T, atol=1e-5, rtol=1e-4)
    bias = goal.mean(0) - hidden.mean(0) @ weight
    torch.testing.assert_close(last.bias.double(), bias, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_batchnorm_is_matched() -> None:
    """Each channel leaves its BatchNorm with the mean and the standard deviation that it has in the source."""
    model, component, kept = _component("plain", 0.6)
    x = _images(100)
    repaired = repair(model, component, kept, x, Repair(method="bn"))
    seen: dict[str, torch.Tensor] = {}

    def keep(who: str) -> Callable[..., None]:
        return lambda _module, _inputs, y: seen.update({who: y.clone()})

    for who, network in (("source", model), ("component", repaired)):
        network.get_submodule("4").register_forward_hook(keep(who))
        network(x)
    own, source = seen["component"], seen["source"][:, list(kept["3"])]
    torch.testing.assert_close(own.mean((0, 2, 3)), source.mean((0, 2, 3)), atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(own.std((0, 2, 3)), source.std((0, 2, 3)), atol=1e-4, rtol=1e-3)


@torch.no_grad()
def test_a_sum_absorbs_the_error_of_its_stream() -> None:
    """y + x with y fitted after x has been spoilt: the sum is what it is in the source."""

    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.conv = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1)
            self.norm, self.fc = nn.BatchNorm2d(4), nn.Linear(4, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.stem(x)
            return self.fc((self.norm(self.conv(x)) + x).mean((2, 3)))

    torch.manual_seed(0)
    model = Sum().eval()
    kept = {"stem": (0, 1, 2), "conv": (0, 1, 2)}
    x = _images(100)
    repaired = repair(model, cut(model, kept, SHAPE), kept, x, Repair(ridge=1e-6))
    spoilt = copy.deepcopy(cut(model, kept, SHAPE))
    for network in (repaired, spoilt):
        sums: dict[str, torch.Tensor] = {}
        network.get_submodule("fc").register_forward_pre_hook(lambda _m, given, s=sums: s.update(fc=given[0]))
        network(x)
        network.seen = sums["fc"]  # type: ignore[assignment]
    seen: dict[str, torch.Tensor] = {}
    model.fc.register_forward_pre_hook(lambda _m, given: seen.update(fc=given[0]))
    model(x)
    goal = seen["fc"][:, :3]
    assert (repaired.seen - goal).abs().max() < 0.05 * (spoilt.seen - goal).abs().max()  # type: ignore[operator]


def test_another_architecture_is_refused() -> None:
    model, _, kept = _component("resnet", 0.6)
    with pytest.raises(BrickyardError, match="not of one architecture"):
        repair(model, networks.build("dense"), kept, _images(4), Repair())


def _answers(network: nn.Module, x: torch.Tensor, rest: torch.Tensor) -> torch.Tensor:
    return torch.cat([network(x), rest], 1).log_softmax(1)


@torch.no_grad()
def test_more_images_bring_the_classifier_nearer_to_the_answers() -> None:
    """For them, beside the source's other classes."""
    model = networks.build("plain")
    model.get_parameter("12.weight").mul_(3 / model(_images(200, 7)).std(0).mean())  # answers that differ
    model.get_parameter("12.bias").sub_(model(_images(200, 7)).mean(0))
    coupling = couple(graph.trace(model, "plain", SHAPE), "plain")
    outputs = coupling.classifier.outputs
    kept = indices(coupling, networks.some(coupling, 0.5) - set(outputs[2:]) | set(outputs[:2]))
    component, x, more = cut(model, kept, SHAPE), _images(20), _images(400, 5)
    batches = [(part, torch.zeros(len(part))) for part in more.split(150)]
    rest = model(more)[:, 2:].logsumexp(1, keepdim=True)
    wanted = _answers(lambda x: model(x)[:, :2], more, rest)  # type: ignore[arg-type]
    apart = []
    for given in (None, batches):
        repaired = repair(model, component, kept, x, Repair(ridge=1e-3), given)
        apart.append(float((wanted.exp() * (wanted - _answers(repaired, more, rest))).sum(1).mean()))
    assert apart[1] < 0.98 * apart[0]
    mirrored = repair(model, component, kept, x, Repair(mirror=True), batches)
    same = repair(model, component, kept, torch.cat([x, x.flip(-1)]), Repair(), batches)
    assert all(torch.equal(a, same.state_dict()[name]) for name, a in mirrored.state_dict().items())


def test_a_classifier_that_is_called_as_a_function_answers_too() -> None:
    """Some of timm's give F.linear their weights; hooks on the module see nothing there."""

    class Called(nn.Linear):
        def forward(self, input: torch.Tensor) -> torch.Tensor:
            return nn.functional.linear(input, self.weight, self.bias)

    model = networks.build("plain")
    called = copy.deepcopy(model)
    head = model.get_submodule("12")
    called.add_module("12", Called(head.in_features, head.out_features))  # type: ignore[arg-type]
    called.load_state_dict(model.state_dict())
    coupling = couple(graph.trace(model, "plain", SHAPE), "plain")
    kept = indices(coupling, networks.some(coupling, 0.5) - set(coupling.classifier.outputs[2:]))
    found = [repair(own, cut(own, kept, SHAPE), kept, _images(40), Repair()) for own in (model, called.eval())]
    assert all(torch.equal(a, found[1].state_dict()[name]) for name, a in found[0].state_dict().items())


@pytest.mark.parametrize("method", ["ridge", "bn", "none"])
def test_source_and_component_are_left_as_they_are(method: Any) -> None:
    """In train mode, too, in which they are repaired as in eval mode."""
    model, component, kept = _component("resnet", 0.6)
    expected = repair(model, component, kept, _images(20), Repair(method=method))
    for network in (model, component):
        network.train().get_submodule("fc").eval()
    before = [artifacts.tensor_checksum(network.state_dict()) for network in (model, component)]
    found = repair(model, component, kept, _images(20), Repair(method=method))
    assert not any(part.training for part in found.modules())
    assert all(torch.equal(a, found.state_dict()[name]) for name, a in expected.state_dict().items())
    assert [artifacts.tensor_checksum(network.state_dict()) for network in (model, component)] == before
    for network in (model, component):
        assert {name for name, part in network.named_modules() if not part.training} == {"fc"}


@torch.no_grad()
def test_layers_fitted_together_follow_the_source_more_closely() -> None:
    """Than layers fitted one by one, on other images."""
    model, component, kept = _component("plain", 0.5)
    x, new = _images(200), _images(200, 4)
    errors = []
    for rounds in (0, 2):
        repaired = repair(model, component, kept, x, Repair(joint=rounds, classifier="logits"))
        errors.append(float((repaired(new) - model(new)).square().mean()))
    assert errors[1] < 0.95 * errors[0]


@torch.no_grad()
def test_layers_are_fitted_together_for_images_of_all_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Images of a folder lie class by class."""
    monkeypatch.setattr("lib.mda.components.fitting._JOINTLY", 100)
    model, component, kept = _component("plain", 0.5)
    first, second = _images(200), -_images(200, 4)
    mixed = torch.stack([first, second], 1).flatten(0, 1)
    errors = []
    for x in (torch.cat([first, second]), mixed):
        repaired = repair(model, component, kept, x, Repair(joint=2, classifier="logits"))
        new = -_images(200, 5)
        errors.append(float((repaired(new) - model(new)).square().mean()))
    assert errors[0] < 1.1 * errors[1]


class Tokens(nn.Module):
    """Between the convolution and the mean, every position is a row of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 12, 4, 4), nn.BatchNorm1d(12)
        self.inner, self.fc = nn.Linear(12, 10), nn.Linear(10, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.stem(x).flatten(2).transpose(1, 2).flatten(0, 1)).relu()
        return self.fc(self.inner(x).relu().unflatten(0, (-1, 16)).mean(1))


@torch.no_grad()
def test_layers_that_read_rows_of_positions_are_fitted_one_by_one() -> None:
    model = Tokens().eval()
    coupling = couple(graph.trace(model, "tokens", (3, 16, 16)), "tokens")
    kept = indices(coupling, networks.some(coupling, 0.5) | set(coupling.classifier.outputs))
    component, x = cut(model, kept, (3, 16, 16)), torch.rand(60, 3, 16, 16)
    repaired = repair(model, component, kept, x, Repair())
    apart = [float((network(x) - model(x)).square().mean()) for network in (component, repaired)]
    assert apart[1] < 0.6 * apart[0]


READERS = {
    "plain": [1, 1, 1],
    "resnet": [1, 1, 1, 1],  # the first layer of each block; what the second makes is added
    "inception": [2, 1, 2, 2, 1, 2, 2, 1, 1, 1],  # branches wait for one another, then both layers behind read them
    "option_a": [1, 1, 1],
    "dense": [1],  # what others make is put together with what is not there yet
    "excited": [1, 1],
    "grouped": [1],
}


@pytest.mark.parametrize("name", READERS)
def test_who_reads_what_a_layer_makes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Number of readers of every layer that is fitted together with them."""
    found: list[int] = []

    def improve(x: Any, first: Any, between: Any, readers: list[Any], *args: Any) -> Any:
        found.append(len(readers))
        return joint.improve(x, first, between, readers, *args)

    monkeypatch.setattr("lib.mda.components.fitting.improve", improve)
    model, component, kept = _component(name, 0.6)
    repair(model, component, kept, _images(20), Repair(joint=1))
    assert found == READERS[name]
