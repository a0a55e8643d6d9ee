import pytest
import torch
from torch import nn
from torch.nn import functional as F

from data.models.cifar_resnet import cifar_resnet
from lib.base.errors import BrickyardError
from lib.channels import cutting
from lib.channels.coupling import couple
from lib.network import padded
from lib.trace import graph
from tests import pico as branched
from tests.mda import networks, pico

KEPT = ({"0.0": (0, 2, 5), "1": (1, 2, 3, 7), "6": (0, 4), "9": (0, 2)}, {"0.0": (1, 4), "1": (0,), "9": (1,)})


def test_kernels_between_parts_are_zero() -> None:
    parts = [cutting.cut(pico.plain(seed=i), kept, pico.SHAPE) for i, kept in enumerate(KEPT)]
    network = padded.assemble({"a": parts[0], "b": parts[1]}, pico.SHAPE)
    assert tuple(pico.weight(network, "0.0").shape) == (5, 3, 3, 3)
    weight = pico.weight(network, "1")
    assert tuple(weight.shape) == (5, 5, 3, 3)
    assert not weight[:4, 3:].any()
    assert not weight[4:, :3].any()
    assert torch.equal(weight[4:, 3:], pico.weight(parts[1], "1"))


@pytest.mark.parametrize("kind", [branched.PicoResNet, branched.PicoInception, networks.Dense])
def test_branches_shortcuts_and_concatenations(kind: type[nn.Module]) -> None:
    """Random halves of the channels of two networks, where they meet in sums, products and concatenations."""
    parts = {}
    for seed in range(2):
        torch.manual_seed(seed)
        model = branched.alive(kind())
        coupling = couple(graph.trace(model, "net", networks.SHAPE), "net")
        drawn = torch.rand(coupling.count) < 0.6 + 0.3 * seed
        chosen = set(drawn.nonzero().flatten().tolist()) | coupling.fixed | set(coupling.classifier.outputs[seed:3])
        chosen |= {layer.outputs[0] for layer in coupling.layers[:-1]}
        parts[f"n{seed}"] = cutting.cut(model, cutting.indices(coupling, chosen), networks.SHAPE)
    x = torch.randn(4, *networks.SHAPE)
    network = padded.assemble(parts, networks.SHAPE)
    with torch.no_grad():
        expected = torch.cat([part(x) for part in parts.values()], 1)
        torch.testing.assert_close(network(x), expected, atol=1e-5, rtol=0)


def test_weights_that_cannot_be_put_side_by_side() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.act, self.fc = nn.Conv2d(3, 4, 3), nn.PReLU(), nn.Linear(4, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(self.act(self.conv(x)).mean((2, 3)))

    with pytest.raises(BrickyardError, match=r"a: act \(PReLU\) has weights that cannot be put side by side"):
        padded.assemble({"a": Odd(), "b": Odd()}, pico.SHAPE)
    with pytest.raises(BrickyardError, match="not all of a, b have a module"):
        padded.assemble({"a": pico.plain(), "b": Odd()}, pico.SHAPE)


@pytest.mark.parametrize("left", [True, False])
def test_numbers_of_channels_that_are_written_in(left: bool) -> None:
    """A shortcut padded with channels before and behind, and a fixed shape; one part may have none of these left."""
    parts = {}
    for seed in range(2):
        torch.manual_seed(seed)
        model = branched.alive(cifar_resnet(depth=8))
        coupling = couple(graph.trace(model, "net", (3, 32, 32)), "net")
        chosen = set((torch.rand(coupling.count) < 0.5 + 0.2 * seed).nonzero().flatten().tolist()) | coupling.fixed
        chosen |= set(coupling.classifier.outputs[seed:3])
        chosen |= {layer.outputs[len(layer.outputs) // 2] for layer in coupling.layers[:-1]}
        first = coupling.sizes[0]
        chosen = chosen | set(first.channels) if left or seed else chosen - set(first.channels)
        parts[f"n{seed}"] = cutting.cut(model, cutting.indices(coupling, chosen), (3, 32, 32))
    x = torch.randn(4, 3, 32, 32)
    network = padded.assemble(parts, (3, 32, 32))
    with torch.no_grad():
        expected = torch.cat([part(x) for part in parts.values()], 1)
        torch.testing.assert_close(network(x), expected, atol=1e-5, rtol=1e-5)


class Fixed(nn.Module):
    def __init__(self, act: bool = False) -> None:
        super().__init__()
        self.conv, self.fc, self.act = nn.Conv2d(3, 5, 3, groups=1), nn.Linear(5 * 4, 3), act

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.adaptive_avg_pool2d(self.conv(x), 2)
        return self.fc((x.relu() if self.act else x).view(-1, 20))


def test_a_fixed_shape() -> None:
    parts = {"a": Fixed(), "b": Fixed(), "c": cutting.cut(Fixed(), {"conv": (1, 4)}, networks.SHAPE)}
    x = torch.randn(4, *networks.SHAPE)
    network = padded.assemble(parts, networks.SHAPE)
    with torch.no_grad():
        expected = torch.cat([part(x) for part in parts.values()], 1)
        torch.testing.assert_close(network(x), expected, atol=1e-5, rtol=1e-5)


def test_parts_that_compute_differently_are_named() -> None:
    with pytest.raises(BrickyardError, match=r"a, b do not compute alike; write lego\.form: parallel"):
        padded.assemble({"a": Fixed(), "b": Fixed(act=True)}, networks.SHAPE)


def test_weights_that_are_tied_are_named() -> None:
    parts = {name: networks.build("shared_norm", seed) for seed, name in enumerate("ab")}
    with pytest.raises(
        BrickyardError, match=r"a: extra\.weight and other\.weight are one weight.*lego\.form: parallel"
    ):
        padded.assemble(parts, networks.SHAPE)


def test_channels_that_would_meet_are_named() -> None:
    """A norm over groups of three channels, of parts whose groups do not hold equally many."""
    wide, narrow = (
        nn.Sequential(nn.Conv2d(3, n, 3), nn.GroupNorm(2, n), nn.Flatten(), nn.Linear(n * 36, 2)) for n in (6, 4)
    )
    with pytest.raises(BrickyardError, match=r"wide, narrow cannot be padded.*lego\.form: parallel"):
        padded.assemble({"wide": wide, "narrow": narrow}, (3, 8, 8))
