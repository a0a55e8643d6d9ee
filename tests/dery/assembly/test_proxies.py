"""NASWOT, SynFlow and Kendall's tau against their definitions."""

import numpy as np
import pytest
import torch
from scipy.stats import kendalltau
from torch import nn
from torch.nn import functional as F

from lib.dery.assembly.agreement import kendall_tau
from lib.dery.assembly.proxies.naswot import Codes, naswot
from lib.dery.assembly.proxies.synflow import synflow
from tests import pico

RELUS = {
    "module": nn.ReLU(),
    "in place": nn.ReLU(inplace=True),
    "relu6": nn.ReLU6(),
    "leaky": nn.LeakyReLU(),
    "silu": nn.SiLU(),
    "gelu": nn.GELU(),
    "hardswish": nn.Hardswish(inplace=True),
    "elu": nn.ELU(),
    "prelu": nn.PReLU(),
}
FUNCTIONS = {
    "F.relu": F.relu,
    "torch.relu": torch.relu,
    "Tensor.relu_": torch.Tensor.relu_,
    "F.relu_": lambda x: F.relu(x, inplace=True),
    "F.gelu": F.gelu,
    "clamp": lambda x: x.clamp(min=0),
}


class Activated(nn.Module):
    def __init__(self, unit: object) -> None:
        super().__init__()
        self.conv, self.unit = nn.Conv2d(3, 4, 3), unit

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.unit(self.conv(x)).mean((2, 3))  # pyright: ignore[reportCallIssue]


@pytest.mark.parametrize("unit", [*RELUS.values(), *FUNCTIONS.values()], ids=[*RELUS, *FUNCTIONS])
def test_every_kind_of_unit_counts_once(unit: object) -> None:
    network, x = Activated(unit).eval(), torch.randn(5, 3, 6, 6)
    with torch.no_grad():
        bits = (network.conv(x) > 0).flatten(1).numpy()
    kernel = np.array([[(a == b).sum() for b in bits] for a in bits])
    assert naswot(network, [x]) == pytest.approx(np.linalg.slogdet(kernel)[1])


def test_naswot_adds_kernels_over_units_and_averages_over_batches() -> None:
    network = pico.alive(pico.PicoResNet())
    batches = [torch.randn(6, 3, 16, 16) for _ in range(3)]
    kernels = []
    for x in batches:
        with torch.no_grad(), Codes(6) as codes:
            network(x)
        assert codes.kernel is not None
        units = codes.kernel[0, 0]
        assert (codes.kernel.diagonal() == units).all()
        assert units == 6 * 64 * (1 + 2 * 2) + 12 * 16 * 2 * 2  # the stem's F.relu and two in each of four blocks
        kernels.append(float(torch.linalg.slogdet(codes.kernel)[1]))
    assert naswot(network, batches) == pytest.approx(np.mean(kernels))


def test_naswot_of_a_transformer_counts_its_gelus() -> None:
    with torch.no_grad(), Codes(4) as codes:
        pico.PicoViT().eval()(torch.randn(4, 3, 16, 16))
    assert codes.kernel is not None
    assert codes.kernel[0, 0] == 3 * 17 * 16


def test_naswot_says_nothing_without_units_and_minus_infinity_for_equal_images() -> None:
    assert naswot(nn.Conv2d(3, 2, 1), [torch.randn(4, 3, 2, 2)]) is None
    assert naswot(Activated(F.relu), []) is None
    x = torch.randn(1, 3, 6, 6).expand(3, -1, -1, -1)
    assert naswot(Activated(F.relu), [x]) == -np.inf


def test_synflow_of_a_linear_network_in_closed_form() -> None:
    """R = 1'|A||B|1; every weight's share is |w| dR/d|w|, and each layer's shares add up to R."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 5, bias=False), nn.ReLU(), nn.Linear(5, 3, bias=False))
    before = [p.clone() for p in network.parameters()]
    first, second = (p.detach().abs().double() for p in network.parameters())
    flow = (second @ first).sum()
    assert synflow(network, (3, 2, 2)) == pytest.approx(float((2 * flow).log()))
    assert all(torch.equal(p, q) for p, q in zip(before, network.parameters(), strict=True))
    assert all(p.requires_grad for p in network.parameters())


def test_synflow_takes_batchnorm_for_the_identity() -> None:
    convolutions = [nn.Conv2d(3, 4, 1, bias=False), nn.Conv2d(4, 2, 1, bias=False)]
    plain = nn.Sequential(*convolutions)
    normed = pico.alive(nn.Sequential(convolutions[0], nn.BatchNorm2d(4), convolutions[1]))
    assert synflow(normed, (3, 4, 4)) == pytest.approx(synflow(plain, (3, 4, 4)))


def test_synflow_does_not_overflow_where_single_precision_does() -> None:
    deep = nn.Sequential(*[nn.Linear(64, 64, bias=False) for _ in range(60)])
    for layer in deep:
        nn.init.constant_(layer.weight, 1.0)  # pyright: ignore[reportArgumentType]
    assert synflow(deep, (64,)) == pytest.approx(61 * np.log(64) + np.log(60))
    assert synflow(nn.Sequential(nn.ReLU()), (4,)) is None


@pytest.mark.parametrize("seed", range(10))
def test_kendall_tau_is_scipys(seed: int) -> None:
    generator = np.random.default_rng(seed)
    a, b = generator.integers(0, 6, 20).astype(float), generator.integers(0, 6, 20).astype(float)
    assert kendall_tau(a.tolist(), b.tolist()) == pytest.approx(kendalltau(a, b)[0])


def test_kendall_tau_with_ends() -> None:
    assert kendall_tau([1, 2, 3], [10, 20, 30]) == pytest.approx(1)
    assert kendall_tau([-np.inf, 2, np.inf], [3, 2, 1]) == pytest.approx(-1)
    assert kendall_tau([1, 1], [1, 2]) is None
    assert kendall_tau([1], [2]) is None
