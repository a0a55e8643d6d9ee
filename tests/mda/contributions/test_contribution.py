from typing import Any

import pytest
import torch
from torch import nn

from lib.base.errors import BrickyardError
from lib.channels.coupling import couple
from lib.mda.contributions import contribution
from lib.trace import graph
from studies.mda.materialised import materialised
from tests.mda import networks, pico


def test_conv_by_hand() -> None:
    """Kernel [[1, -1]] over rows of three: the sums over space are x0 - x2 and, for the second image, its negative."""
    layer = nn.Conv2d(1, 1, (1, 2), bias=True)
    layer.weight.data = torch.tensor([[[[1.0, -1.0]]]])
    layer.bias = nn.Parameter(torch.tensor([100.0]))  # belongs to no input channel
    x = torch.tensor([[[[5.0, 7.0, 2.0]]], [[[1.0, 7.0, 2.0]]]])
    assert contribution.patches(x, layer).tolist() == [[[12.0, 9.0]], [[8.0, 9.0]]]
    assert contribution.of_layer(x, layer).tolist() == [[3.0]]  # ReLU for each image: 3 + 0, not ReLU(3 - 1) = 2


def test_linear_by_hand() -> None:
    layer = nn.Linear(2, 1)
    layer.weight.data = torch.tensor([[2.0, -1.0]])
    x = torch.tensor([[1.0, 3.0], [-4.0, -5.0]])
    assert contribution.of_layer(x, layer).tolist() == [[2.0, 5.0]]
    assert contribution.of_layer(x, layer, positions=2).tolist() == [[0.0]]  # 2 - 3 and -8 + 5: sums of one channel


@pytest.mark.parametrize(
    "settings",
    [
        {"kernel_size": 3, "padding": 1},
        {"kernel_size": 3, "stride": 2, "padding": 1, "dilation": 2},
        {"kernel_size": (2, 3), "stride": (1, 3), "padding": (0, 2)},
        {"kernel_size": 1, "stride": 2},
        {"kernel_size": 4, "padding": "same", "dilation": 2},
        {"kernel_size": 3, "padding": 1, "groups": 2, "stride": 2},
        {"kernel_size": 3, "padding": 1, "groups": 6, "padding_mode": "reflect"},
        {"kernel_size": 3, "groups": 3, "dilation": 2},
    ],
)
@pytest.mark.parametrize("chunk", [2**24, 1])
def test_conv_equals_definition(settings: dict, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contribution, "CHUNK", chunk)
    layer = nn.Conv2d(6, 12, **settings).requires_grad_(False)
    x = pico.images(6, shape=(6, 11, 10))
    found, expected = contribution.of_layer(x, layer), pico.naive_conv(x.double(), layer.double())
    assert found.shape == expected.shape == (12, 6 // layer.groups)
    assert (found - expected).abs().max() <= 1e-6 * expected.max()


@pytest.mark.parametrize("positions", [1, 4])
def test_linear_equals_definition(positions: int) -> None:
    layer = nn.Linear(12, 7)
    x = pico.images(6, shape=(12,))
    found = contribution.of_layer(x, layer, positions)
    expected = pico.naive_linear(x.double(), layer.double(), positions)
    assert (found - expected).abs().max() <= 1e-6 * expected.max()


def test_streams_over_batches_and_leaves_the_network_alone() -> None:
    model = pico.plain()
    layers = couple(graph.trace(model, "pico", pico.SHAPE), "pico").layers
    x = pico.images(7)
    y = torch.zeros(7, dtype=torch.int64)
    once = contribution.contributions(model, layers, [(x, y)])
    streamed = contribution.contributions(model, layers, [(x[:3], y[:3]), (x[3:], y[3:])])
    inner = model[0](x)
    assert (once["1"] - pico.naive_conv(inner, model[1])).abs().max() <= 1e-5 * once["1"].max()
    assert once["6"].shape == (5, 8)
    for name in pico.LAYERS:
        torch.testing.assert_close(streamed[name], once[name], rtol=1e-5, atol=1e-6)
    assert not any(module._forward_pre_hooks for module in model.modules())


@torch.no_grad()
def test_folded_batchnorm_is_the_scaled_convolution() -> None:
    """What leaves a BatchNorm in eval mode is a convolution with other weights: its contributions, by definition."""
    model, x = pico.plain(), pico.images(5)
    norm: Any = model[2]
    norm.weight[:3] *= -1
    layers = couple(graph.trace(model, "pico", pico.SHAPE), "pico").layers
    batches = [(x, torch.zeros(5, dtype=torch.int64))]
    apart, folded = (contribution.contributions(model, layers, batches, fold)["1"] for fold in (False, True))
    by = norm.weight / (norm.running_var + norm.eps).sqrt()
    inner = model[0](x)
    model[1].get_parameter("weight").mul_(by[:, None, None, None])
    assert (folded - pico.naive_conv(inner, model[1])).abs().max() <= 1e-5 * folded.max()
    torch.testing.assert_close(folded[3:], apart[3:] * by[3:, None].double(), rtol=1e-5, atol=1e-6)
    assert not torch.allclose(folded[:3], (apart[:3] * by[:3, None].double()).abs())


class _Fixed(nn.Module):
    """Answers with the logits that the images hold."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def test_selects_the_most_confident_correct_images() -> None:
    x = torch.tensor([[1.0, 0], [3, 0], [0, 1], [2, 0], [0, 5], [9, 0]])
    y = torch.tensor([0, 0, 1, 0, 1, 1])
    batches = [(x[:2], y[:2]), (x[2:], y[2:])]
    selected = contribution.select(_Fixed(), batches, 2, ["cat", "dog"], "pico")
    assert [s.tolist() for s in selected] == [[1, 3], [4, 2]]
    assert contribution.select(_Fixed(), batches, 9, ["cat", "dog"], "pico")[1].tolist() == [4, 2]


def test_class_without_correct_images() -> None:
    batches = [(torch.tensor([[1.0, 0], [3, 0]]), torch.tensor([0, 1]))]
    with pytest.raises(BrickyardError, match="pico: class 'dog' has no correctly classified train image"):
        contribution.select(_Fixed(), batches, 2, ["cat", "dog"], "pico")


def test_of_a_network_that_has_learnt_nothing_the_most_probable_images_are_selected_right_or_wrong() -> None:
    x = torch.tensor([[3.0, 0], [9, 0], [0, 1], [2, 0], [0, 5], [0, 0.5]])
    y = torch.tensor([0, 1, 1, 1, 1, 0])
    selected = contribution.select(_Fixed(), [(x, y)], 3, ["cat", "dog"], "pico", wrong=True)
    assert [s.tolist() for s in selected] == [[0, 5], [4, 2, 3]]


@pytest.mark.parametrize("name", networks.BUILDERS)
@torch.no_grad()
def test_layers_see_what_they_see_in_the_network(name: str) -> None:
    """By the definition, on what reaches the layers of a network that runs by itself; images stay as they are."""
    model = networks.build(name)
    found = couple(graph.trace(model, name, networks.SHAPE), name)
    layers = [layer for layer in found.layers if layer.groups == 1]
    x = pico.images(4, shape=networks.SHAPE)
    given = x.clone()
    sums = contribution.contributions(
        model, layers, [(given, torch.zeros(4, dtype=torch.int64))], order=found.memory_format
    )
    assert torch.equal(given, x)
    for layer, expected in materialised(
        networks.build(name), layers, [(given, torch.zeros(4, dtype=torch.int64))]
    ).items():
        assert (sums[layer] - expected).abs().max() <= 1e-4 * expected.max()
