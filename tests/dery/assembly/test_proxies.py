"""What foretells accuracy, and Kendall's tau, against their definitions."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import numpy as np
import pytest
import timm
import torch
from scipy.stats import kendalltau
from torch import nn
from torch.nn import functional as F

from lib.chain.chain import Chain
from lib.dery.assembly.agreement import kendall_tau
from lib.dery.assembly.proxies.fisher import fisher
from lib.dery.assembly.proxies.grad_norm import grad_norm
from lib.dery.assembly.proxies.jacov import jacov
from lib.dery.assembly.proxies.naswot import Codes, naswot
from lib.dery.assembly.proxies.naswot_paper import naswot_paper
from lib.dery.assembly.proxies.snip import snip
from lib.dery.assembly.proxies.synflow import synflow
from lib.dery.assembly.proxies.synflow_paper import synflow_paper
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


class Answers(nn.Module):
    """Convolution, norm, activation, dropout, tokens through a linear layer, a head; an in-place function between."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.conv, self.norm, self.unit = nn.Conv2d(3, 4, 3, 2), nn.BatchNorm2d(4), nn.GELU()
        self.tokens, self.drop, self.head = nn.Linear(4, 5), nn.Dropout(dropout), nn.Linear(5, 3)
        self.unused = nn.Linear(2, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.unit(self.norm(F.relu_(self.conv(x))))
        return self.head(self.drop(self.tokens(y.flatten(2).transpose(1, 2))).mean(1))


def labelled(*sizes: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(3)
    return [(torch.randn(n, 3, 9, 9, generator=generator), torch.arange(n) % 3) for n in sizes]


def by_hand(network: nn.Module, x: torch.Tensor, y: torch.Tensor) -> tuple[nn.Module, list[torch.Tensor | None]]:
    """A copy in train mode, and the gradients of its parameters."""
    copy = deepcopy(network).train()
    F.cross_entropy(copy(x), y).backward()
    return copy, [p.grad for p in copy.parameters()]


@pytest.mark.parametrize("proxy", [jacov, grad_norm, snip, fisher, naswot_paper])
def test_looking_in_train_mode_changes_nothing_and_is_the_same_each_time(proxy: Callable[..., float | None]) -> None:
    network, batches = pico.alive(Answers(0.5)).requires_grad_(False), labelled(6, 1, 4)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    state = torch.get_rng_state()
    with torch.no_grad():
        first = proxy(network, batches)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(5)
    assert first is not None
    assert first == proxy(network, batches)
    assert first == proxy(network, [*labelled(6, 1, 4), *labelled(1)])  # one image has no statistics of its own
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
    assert not any(part.training or part._forward_hooks for part in network.modules())
    assert not any(p.requires_grad or p.grad is not None for p in network.parameters())
    assert proxy(network, labelled(1)) is None


def test_grad_norm_and_snip_are_sums_over_all_parameters() -> None:
    network, norms, sums = pico.alive(Answers()), [], []
    for x, y in labelled(6, 4):
        copy, found = by_hand(network, x, y)
        pairs = [
            (p.detach().numpy(), g.numpy()) for p, g in zip(copy.parameters(), found, strict=True) if g is not None
        ]
        assert len(pairs) == 8  # all but `unused`
        norms.append(np.sqrt(sum((g.astype(float) ** 2).sum() for _, g in pairs)))
        sums.append(sum(np.abs(p.astype(float) * g).sum() for p, g in pairs))
    assert grad_norm(network, labelled(6, 4)) == pytest.approx(np.mean(norms), rel=1e-5)
    assert snip(network, labelled(6, 4)) == pytest.approx(np.mean(sums), rel=1e-5)


def test_snip_of_a_linear_network_in_closed_form() -> None:
    """Two classes, logits w x + c: dL/dw_k = mean (p_k - [y = k]) x."""
    network = nn.Linear(3, 2)
    x, y = torch.randn(7, 3), torch.arange(7) % 2
    with torch.no_grad():
        wrong = network(x).softmax(1) - F.one_hot(y, 2)
        expected = (network.weight * (wrong.T @ x / 7)).abs().sum() + (network.bias * wrong.mean(0)).abs().sum()
    assert snip(network, [(x, y)]) == pytest.approx(float(expected), rel=1e-5)


def test_fisher_is_what_zeroing_a_channel_of_one_image_costs_to_first_order() -> None:
    """sum_p a dL/da by differences: channel c of image b is scaled by 1 + t."""
    network, (x, y) = pico.alive(Answers()).double(), labelled(4)[0]
    x, total, t = x.double(), 0.0, 1e-5
    for name, channels in (("conv", 1), ("tokens", -1), ("head", -1)):
        layer = network.get_submodule(name)
        count = getattr(layer, "out_channels", getattr(layer, "out_features", 0))
        shares = np.zeros((4, count))
        for image in range(4):
            for c in range(count):
                losses = []
                for sign in (1, -1):

                    def scaled(
                        _: nn.Module, __: Any, out: torch.Tensor, image: int = image, c: int = c, by: float = sign * t
                    ) -> torch.Tensor:
                        out = out.clone()
                        out.movedim(channels, 1)[image, c] *= 1 + by  # noqa: B023
                        return out

                    copy = deepcopy(network).train()
                    copy.get_submodule(name).register_forward_hook(scaled)
                    losses.append(F.cross_entropy(copy(x), y).item())
                shares[image, c] = (losses[0] - losses[1]) / (2 * t)
        total += (shares**2).mean(0).sum() / 2
    assert fisher(network, [(x, y)]) == pytest.approx(total, rel=1e-4)


def test_fisher_sees_windows_as_parts_of_their_image_and_nothing_where_there_is_no_layer() -> None:
    class Windows(nn.Module):
        def __init__(self, apart: bool) -> None:
            super().__init__()
            self.layer, self.apart = nn.Linear(3, 4), apart

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            rows = x.flatten(2).transpose(1, 2)  # [b, 81, 3]
            rows = self.layer(rows.reshape(-1, 9, 3)).reshape(len(x), 81, 4) if self.apart else self.layer(rows)
            return rows.square().mean(1)

    one, other = Windows(True), Windows(False)
    other.load_state_dict(one.state_dict())
    assert fisher(one, labelled(4)) == pytest.approx(fisher(other, labelled(4)), rel=1e-5)
    assert fisher(nn.Sequential(nn.Flatten(), nn.BatchNorm1d(243)), labelled(4)) is None


def test_jacov_is_of_correlations_between_the_images_gradients() -> None:
    network, (x, y) = pico.alive(Answers()), labelled(6)[0]
    rows = []
    for image in range(6):
        copy, given = deepcopy(network).train(), x.clone().requires_grad_(True)
        copy(given).sum().backward()
        assert given.grad is not None
        rows.append(given.grad[image].flatten().numpy().astype(float))
    values = np.linalg.eigvals(np.corrcoef(rows)).real
    expected = -np.sum(np.log(values + 1e-5) + 1 / (values + 1e-5))
    assert jacov(network, [(x, y)]) == pytest.approx(expected, rel=1e-3)


def test_jacov_is_highest_for_unrelated_gradients_and_says_nothing_without_any() -> None:
    """A linear network gives every image the same gradient: eigenvalues b, 0, 0, ..."""
    x, y = labelled(5)[0]
    linear = nn.Sequential(nn.Flatten(), nn.Linear(243, 3))
    same = -(np.log(5 + 1e-5) + 1 / (5 + 1e-5)) - 4 * (np.log(1e-5) + 1e5)
    assert jacov(linear, [(x, y)]) == pytest.approx(same, rel=1e-6)
    assert (jacov(Answers(), [(x, y)]) or -np.inf) > same
    nn.init.zeros_(linear[1].weight)  # pyright: ignore[reportArgumentType]
    assert jacov(linear, [(x, y)]) is None


def test_the_authors_naswot_counts_signs_of_outputs_of_modules_in_train_mode() -> None:
    network, scores = pico.alive(Answers()), []
    for x, _ in labelled(6, 4):
        copy = deepcopy(network).train()
        with torch.no_grad():
            unit = copy.unit(copy.norm(F.relu(copy.conv(x))))
            tokens = copy.tokens(unit.flatten(2).transpose(1, 2))
            dropped = copy.drop(tokens)
            codes = [(out > 0).flatten(1).numpy() for out in (unit, tokens, dropped, copy.head(dropped.mean(1)))]
        code = np.concatenate(codes, 1)  # neither the convolution nor the function F.relu_
        kernel = np.array([[(a == b).sum() for b in code] for a in code])
        scores.append(np.linalg.slogdet(kernel)[1] / len(x))
    assert naswot_paper(network, labelled(6, 4)) == pytest.approx(np.mean(scores))
    assert naswot_paper(nn.Sequential(nn.Conv2d(3, 2, 3), nn.SiLU(), nn.Flatten()), labelled(4)) is None


def test_the_authors_naswot_counts_attention_of_a_transformers_blocks() -> None:
    """Two blocks of timm's: each counts qkv, proj, its dropout, attention itself, and an MLP's five; then the head."""
    model = timm.create_model("test_vit", img_size=16, patch_size=8, num_classes=4, pretrained=False)
    chain = Chain("vit", model.eval(), (3, 16, 16))
    part, (x, y) = chain[0 : len(chain)], (torch.randn(4, 3, 16, 16), torch.arange(4))
    kernels = [np.zeros((4, 4))]

    def keep(_: nn.Module, __: Any, out: torch.Tensor) -> None:
        bits = (out > 0).flatten(1).numpy()
        kernels[0] = kernels[0] + np.array([[(a == b).sum() for b in bits] for a in bits])

    copy: Any = deepcopy(model).train()
    met = [m for m in copy.modules() if isinstance(m, nn.Linear | nn.Dropout | nn.GELU) or "Attention" in str(type(m))]
    for module in met:
        module.register_forward_hook(keep)
    with torch.no_grad():
        copy.forward_features(x)
    expected = np.linalg.slogdet(kernels[0])[1] / 4
    assert naswot_paper(part, [(x, y)]) == pytest.approx(expected)


def test_the_published_synflow_keeps_batchnorm_and_counts_every_parameter() -> None:
    """Linear in its input: relu(|W|1 + |c|) through |g| (. - |m|) / sd + |b|; shares by differences."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 5), nn.ReLU(), nn.BatchNorm1d(5), nn.Linear(5, 3)).eval()
    norm: Any = network[3]
    for tensor, low, high in ((norm.weight, -2, 2), (norm.bias, -1, 1), (norm.running_mean, -1, 1)):
        nn.init.uniform_(tensor, low, high)
    norm.running_var.uniform_(0.5, 2)
    tensors = {key: value.abs().double() for key, value in network.state_dict().items()}

    def flow(w: dict[str, torch.Tensor]) -> torch.Tensor:
        inner = w["1.weight"].sum(1) + w["1.bias"]
        normed = (inner - w["3.running_mean"]) / (w["3.running_var"] + 1e-5).sqrt() * w["3.weight"] + w["3.bias"]
        return (w["4.weight"] @ normed + w["4.bias"]).sum()

    expected, t = 0.0, 1e-6
    for key in (name for name, _ in network.named_parameters()):
        for i in range(tensors[key].numel()):
            ends = []
            for factor in (1 + t, 1 - t):
                changed = {**tensors, key: tensors[key].clone()}
                changed[key].view(-1)[i] *= factor
                ends.append(float(flow(changed)))
            expected += abs(ends[0] - ends[1]) / (2 * t)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    assert synflow_paper(network, (3, 2, 2)) == pytest.approx(expected, rel=1e-5)
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
    assert synflow_paper(nn.ReLU(), (4,)) is None


def test_the_published_synflow_says_nothing_where_it_overflows() -> None:
    deep = nn.Sequential(*[nn.Linear(64, 64, bias=False) for _ in range(200)])
    for layer in deep:
        nn.init.constant_(layer.weight, 1.0)  # pyright: ignore[reportArgumentType]
    assert synflow_paper(deep, (64,)) is None


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
