import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lib.base.errors import BrickyardError
from lib.channels.channels import Coupling
from lib.channels.coupling import couple, keeping
from lib.channels.cutting import cut
from lib.trace import graph
from tests import unusual
from tests.mda import networks
from tests.mda.pico import SHAPE
from tests.mda.pico import plain as plain_with_two_linear_layers


def _coupling(name: str) -> Coupling:
    return couple(graph.trace(networks.build(name), name, networks.SHAPE), name)


def _layers(coupling: Coupling) -> dict:
    return {layer.name: layer for layer in coupling.layers}


def test_plain_network_is_a_line() -> None:
    model = plain_with_two_linear_layers()
    found = couple(graph.trace(model, "pico", SHAPE), "pico")
    assert [(la.name, la.kind, len(la.inputs), len(la.outputs), la.positions, la.norm) for la in found.layers] == [
        ("0.0", "conv", 3, 6, 1, "0.1"), ("1", "conv", 6, 8, 1, "2"), ("6", "linear", 8, 5, 4, "7"),
        ("9", "linear", 5, 3, 1, None),
    ]  # fmt: skip
    assert [len(stream) for stream in found.streams] == [6, 8, 5, 3]
    assert found.fixed == frozenset(found.layers[0].inputs)
    four_times = tuple(channel for channel in found.layers[1].outputs for _ in range(4))
    assert found.axes["6.weight"] == (found.layers[2].outputs, four_times)
    assert found.axes["2.running_mean"] == (found.layers[1].outputs,)


def test_residual_streams_are_one() -> None:
    found = _coupling("resnet")
    layers = _layers(found)
    first = layers["conv"].outputs
    for block in ("0.0", "0.1"):
        assert layers[f"stages.{block}.conv2"].outputs == first
        assert not set(layers[f"stages.{block}.conv1"].outputs) & set(first)
    second = layers["stages.1.0.down"].outputs
    assert second == layers["stages.1.0.conv2"].outputs == layers["stages.1.1.conv2"].outputs == layers["fc"].inputs
    assert layers["stages.1.0.conv2"].norm == "stages.1.0.bn2"
    assert sorted(map(len, found.streams)) == [4, 6, 6, 6, 12, 12, 12]


def test_padded_channels_are_shifted() -> None:
    """Option A: channels 0-15 of the first stage are 8-23 of the second, which are 16-47 of the third."""
    layers = _layers(found := _coupling("option_a"))
    first, second, third = (layers[f"layer{i}.0.conv2"].outputs for i in (1, 2, 3))
    assert second[8:24] == first
    assert third[16:48] == second
    assert {(size.at, len(size.channels)) for size in found.sizes} == {
        ((1, 4), 8), ((1, 5), 8), ((1, 4), 16), ((1, 5), 16),
    }  # fmt: skip
    assert [len(stream) for stream in found.streams if set(stream) & set(third)] == [16, 16, 32]


def test_concatenations_keep_offsets() -> None:
    layers = _layers(_coupling("dense"))
    stem, one, two, three = (layers[n].outputs for n in ("stem", "convs.0", "convs.1", "convs.2"))
    assert layers["convs.2"].inputs == stem + one + two
    assert layers["fc"].inputs == stem + one + two + three
    inception = _layers(_coupling("inception"))
    one, two = (inception[f"blocks.0.{branch}"].outputs for branch in ("one.0", "two.2"))
    assert inception["blocks.1.one.0"].inputs == one + two


def test_gates_depthwise_filters_and_groups() -> None:
    excited = _coupling("excited")
    layers = _layers(excited)
    wide = layers["expand.0"].outputs
    assert layers["deep.0"].outputs == layers["deep.0"].inputs == layers["gate"].outputs == wide
    assert len(set(wide)) == 12
    assert len(set(layers["stem"].outputs)) == 3, "groups of a GroupNorm stay together"
    grouped = _coupling("grouped")
    layers = _layers(grouped)
    assert len(set(layers["groups"].outputs)) == 3
    assert layers["groups"].outputs[:4] == (layers["stem"].outputs[0],) * 4
    assert layers["where"].outputs[0] in grouped.fixed
    assert grouped.axes["scale"] == (layers["groups"].outputs, None, None)
    assert layers["fc"].positions == 4


class _Net(nn.Module):
    def __init__(self, features: int = 36) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.classifier = nn.Linear(features, 2)


class Permuted(_Net):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(F.adaptive_avg_pool2d(self.second(self.first(x)), 3).permute(0, 2, 3, 1).flatten(1))


class MeanOverChannels(_Net):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(F.adaptive_avg_pool2d(self.second(self.first(x)), 4).mean((1, 2)))


class Sliced(_Net):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(F.adaptive_avg_pool2d(self.second(self.first(x)), 3)[:, ::2].flatten(1))


class WrongAxis(_Net):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        return self.classifier(F.adaptive_avg_pool2d(torch.cat([x, self.second(x)], 2), 3).flatten(1))


@pytest.mark.parametrize(
    ("model", "whole", "apart"),
    [
        (Permuted(), set(), {"first", "second"}),
        (MeanOverChannels(features=4), {"second"}, {"first"}),
        (Sliced(features=18), {"second"}, {"first"}),
        (WrongAxis(), set(), {"first", "second"}),
        (unusual.build("item"), {"stem.0"}, {"body.0.0", "body.1.0"}),
    ],
)
def test_what_is_mixed_stays_whole_and_the_rest_comes_apart(model: nn.Module, whole: set[str], apart: set[str]) -> None:
    found = couple(graph.trace(model.eval(), "net", networks.SHAPE), "net")
    layers = _layers(found)
    assert all(set(layers[name].outputs) <= found.fixed for name in whole)
    assert all(found.fixed.isdisjoint(layers[name].outputs) for name in apart)


@pytest.mark.parametrize(
    ("model", "where"),
    [
        (
            nn.Sequential(nn.Conv2d(3, 4, 3), nn.Softmax(1), nn.Flatten(), nn.Linear(784, 2)),
            r"net: nothing can be taken out of it: channels stay, first at 1 \(Softmax\): it takes channels together",
        ),
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3)), "net: has no classifier"),
        (nn.Sequential(nn.Flatten(), nn.Linear(768, 2)), "net: has no layer before its classifier"),
    ],
)
def test_what_cannot_be_followed_is_named(model: nn.Module, where: str) -> None:
    with pytest.raises(BrickyardError, match=where) as caught:
        couple(graph.trace(model, "net", networks.SHAPE), "net")
    assert "\n" not in str(caught.value)


def test_a_head_is_one_channel_and_the_stream_stays() -> None:
    found = _coupling("transformer")
    layers = _layers(found)
    qkv, proj = layers["blocks.0.attn.qkv"], layers["blocks.0.attn.proj"]
    heads = proj.inputs
    assert len(heads) == len(set(heads)) == 4
    assert proj.positions == 4
    assert qkv.outputs == tuple(head for _ in "qkv" for head in heads for _ in range(4))
    for name in ("patch_embed.proj", "blocks.0.attn.proj", "blocks.0.mlp.fc2"):
        assert set(layers[name].outputs) <= found.fixed
    gated = layers["blocks.0.mlp.fc1"].outputs
    assert gated[:12] == gated[12:] == layers["blocks.0.mlp.fc2"].inputs
    assert set(qkv.inputs) <= found.fixed
    assert {size.channels for size in found.sizes if size.node.startswith("reshape")} >= {heads}


def test_tables_of_positions_lose_the_columns_of_their_heads() -> None:
    found = _coupling("windows")
    heads = _layers(found)["proj"].inputs
    assert found.axes["table"] == (None, heads)
    assert found.axes["strength"] == (heads, None, None)
    mixed = _coupling("talking")
    assert _layers(mixed)["talk"].inputs == _layers(mixed)["talk"].outputs == _layers(mixed)["proj"].inputs


def test_modules_that_are_to_be_kept_keep_their_channels() -> None:
    model = networks.build("transformer")
    modules = dict(model.named_modules())
    found = _coupling("transformer")
    kept = keeping(found, ["blocks.0.mlp", "blocks.1"], modules, "net")
    layers = _layers(kept)
    assert set(layers["blocks.0.mlp.fc1"].outputs) <= kept.fixed
    assert set(layers["blocks.1.attn.qkv"].outputs) <= kept.fixed
    assert kept.fixed.isdisjoint(layers["blocks.0.attn.qkv"].outputs)
    assert kept.fixed.isdisjoint(keeping(found, ["head"], modules, "net").classifier.outputs)
    with pytest.raises(BrickyardError, match=r"components\.keep: net has no module 'blocks\.0\.mpl'; did you mean blo"):
        keeping(found, ["blocks.0.mpl"], modules, "net")
    with pytest.raises(BrickyardError, match=r"components\.keep: nothing is left of net"):
        keeping(found, ["blocks"], modules, "net")


class _Sliced(nn.Module):
    def __init__(self, channels: int, first: int):
        super().__init__()
        self.conv, self.head, self.first = nn.Conv2d(3, channels, 3), nn.Linear(channels, 4), first

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(x)
        x[:, self.first :].add_(0.5)
        return self.head(x.mean((2, 3)))


def test_a_slice_of_which_nothing_is_left_is_followed() -> None:
    """As in a network of which all channels of a slice were taken out."""
    found = couple(graph.trace(_Sliced(4, 4), "net", SHAPE), "net")
    assert [len(layer.outputs) for layer in found.layers] == [4, 4]
    made = cut(_Sliced(6, 4).eval(), {"conv": (0, 2)}, SHAPE)
    again = couple(graph.trace(made, "net", SHAPE), "net")
    assert [len(layer.outputs) for layer in again.layers] == [2, 4]
