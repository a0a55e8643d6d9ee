from typing import Any

import pytest
import torch
import torch.nn.functional as F

from lib.base.errors import BrickyardError
from lib.channels.coupling import couple
from lib.mda.contributions import scores
from lib.mda.contributions.masks import Evidence
from lib.trace import graph
from tests import pico as small
from tests import unusual
from tests.mda import networks, pico

SHAPE = networks.SHAPE


@pytest.mark.parametrize("name", ["plain", "resnet", "excited"])
def test_taylor_is_the_derivative_of_taking_a_channel_out(name: str) -> None:
    """Against differences: every reader's input of one channel times 1 - epsilon, one image at a time."""
    model = networks.build(name)
    coupling = couple(graph.trace(model, name, SHAPE), name)
    model.double()
    x, y = pico.images(2, 2, SHAPE).double(), torch.tensor([1, 3])
    found = scores.taylor(model, coupling, [(x, y)])
    streams = [s for s in coupling.streams if s != coupling.classifier.outputs]
    for channel in [stream[0] for stream in streams]:
        expected = 0.0
        for i in range(2):
            losses = []
            for epsilon in (-1e-4, 1e-4):
                handles = []
                for layer in coupling.layers:
                    if layer.groups > 1:
                        continue
                    by = torch.tensor([1 - epsilon * (c == channel) for c in layer.inputs]).double()
                    by = by.repeat_interleave(layer.positions)

                    def hook(_: Any, given: tuple[torch.Tensor, ...], by: torch.Tensor = by) -> tuple[torch.Tensor]:
                        return (given[0] * by.view(1, -1, *[1] * (given[0].ndim - 2)),)

                    handles.append(model.get_submodule(layer.name).register_forward_pre_hook(hook))
                with torch.no_grad():
                    losses.append(torch.nn.functional.cross_entropy(model(x[i : i + 1]), y[i : i + 1]).item())
                for handle in handles:
                    handle.remove()
            expected += abs(losses[1] - losses[0]) / 2e-4
        assert found[channel].item() == pytest.approx(expected, rel=1e-3, abs=1e-8)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_magnitude_counts_all_layers_that_make_a_channel() -> None:
    model = networks.build("resnet")
    coupling = couple(graph.trace(model, "net", SHAPE), "net")
    found = scores.magnitude(model, coupling)
    names = ["conv", "stages.0.0.conv2", "stages.0.1.conv2"]
    squares = sum(model.get_parameter(f"{name}.weight").detach()[4].square().sum() for name in names)
    assert found[coupling.layers[0].outputs[4]].item() == pytest.approx(float(squares) ** 0.5)


def test_scores_by_name() -> None:
    model = networks.build("excited")
    coupling = couple(graph.trace(model, "net", SHAPE), "net")
    batches = {c: [(pico.images(4, 2, SHAPE), torch.full((4,), c))] for c in (0, 2)}
    contribution = scores.gather(model, coupling, batches, pico.contributions(), 0)
    assert set(contribution.soft) == {0, 2}
    assert set(contribution.soft[0]) == {"expand.0", "reduce", "gate", "project.0", "fc"}  # not stem, not depthwise
    for score in ("taylor", "magnitude", "random"):
        found = scores.gather(model, coupling, batches, pico.contributions(score=score), 0)
        assert set(found.scores) == {0, 2}
        assert torch.equal(found.scores[0], found.scores[2]) == (score != "taylor")
        assert (found.margins(2, pico.contributions().thresholds) > 0).any()
    drawn = [
        scores.gather(model, coupling, batches, pico.contributions(score="random"), seed).scores[0]
        for seed in (1, 1, 2)
    ]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def _gathered(model: torch.nn.Module, **changed: Any) -> Evidence:
    coupling = couple(graph.trace(model, "net", SHAPE), "net")
    batches = {c: [(pico.images(4, 2, SHAPE), torch.full((4,), c))] for c in (0, 2)}
    return scores.gather(model, coupling, batches, pico.contributions(**changed), 0, "net")


@pytest.mark.parametrize("name", unusual.MADE_ANEW)
def test_magnitude_of_weights_that_are_made_anew(name: str) -> None:
    model = networks.build(name)
    found = _gathered(model, score="magnitude")
    first = found.coupling.layers[0]
    weight: Any = model.get_submodule(first.name).weight
    norms = weight.detach().double().flatten(1).norm(dim=1)
    torch.testing.assert_close(found.scores[0][list(first.outputs)], norms)


class _Keyword(unusual.Base):
    def between(self, x: torch.Tensor) -> torch.Tensor:
        return self.extra(input=x)


class _Positional(unusual.Base):
    def between(self, x: torch.Tensor) -> torch.Tensor:
        return self.extra(x)


def test_a_layer_that_is_called_by_keyword() -> None:
    models = []
    for kind in (_Keyword, _Positional):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            models.append(small.alive(kind()))
    one, other = (_gathered(model) for model in models)
    assert set(one.soft[0]) == set(other.soft[0])
    assert all(torch.equal(one.soft[c][name], other.soft[c][name]) for c in (0, 2) for name in one.soft[c])
    one, other = (_gathered(model, score="taylor") for model in models)
    assert all(torch.equal(one.scores[c], other.scores[c]) for c in (0, 2))


class _Function(unusual.Base):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(self.body(self.stem(x)).mean((2, 3)), self.fc.weight, self.fc.bias)


@pytest.mark.parametrize("score", ["contribution", "taylor"])
def test_a_layer_that_is_never_called_is_named(score: str) -> None:
    with pytest.raises(BrickyardError, match=r"^net: layer fc is never called.*contributions\.score: magnitude$"):
        _gathered(small.alive(_Function()), score=score)


@pytest.mark.parametrize(("name", "reason"), [("halted", "layer extra gets none"), ("gate", "inplace operation")])
def test_a_network_without_gradients_is_named(name: str, reason: str) -> None:
    model = networks.build(name)
    with pytest.raises(BrickyardError, match=rf"^net has no gradients, which contributions\.score: taylor.*{reason}"):
        _gathered(model, score="taylor")
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(module._forward_pre_hooks for module in model.modules())
