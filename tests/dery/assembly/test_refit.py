"""Closed-form refits against direct solutions, and what must stay as it is."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy

import pytest
import torch
from timm.layers import Conv2dSame, ScaledStdConv2d
from torch import nn
from torch.nn import functional as F

from lib.base.artifacts import tensor_checksum
from lib.chain.chain import Chain
from lib.dery.assembly.refit import refit, refit_run
from lib.fit import batchnorm
from tests import pico


class Twice(nn.Module):
    """One layer that runs twice, one that is grouped, one that can be refitted."""

    def __init__(self) -> None:
        super().__init__()
        self.twice, self.grouped = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 3, padding=1, groups=2)
        self.once = nn.Conv2d(4, 2, 3, 2, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.once(self.grouped(self.twice(F.relu(self.twice(x)))))


def _direct(x: torch.Tensor, y: torch.Tensor, given: torch.Tensor, pull: float) -> torch.Tensor:
    """argmin ||X W - Y||^2 + lambda ||W - W0||^2 by rows stacked below X."""
    penalty = (pull * x.square().sum(0).mean()) ** 0.5 * torch.eye(x.shape[1], dtype=x.dtype)
    return torch.linalg.lstsq(torch.cat([x, penalty]), torch.cat([y, penalty @ given])).solution


def test_a_linear_layer_is_the_direct_solution_whatever_the_batches() -> None:
    source, x, y = nn.Linear(5, 3), torch.randn(60, 4, 5), torch.randn(60, 4, 5)
    y += 2 * x
    part = deepcopy(source)
    refit(part, source, list(zip(x.split(17), y.split(17), strict=True)), 0.3)
    with torch.no_grad():
        rows, wanted = x.flatten(0, 1).double(), source(y).flatten(0, 1).double()
        weight = _direct(rows - rows.mean(0), wanted - wanted.mean(0), source.weight.T.double(), 0.3)
    torch.testing.assert_close(part.weight.T.double(), weight, atol=1e-5, rtol=1e-5)
    bias = wanted.mean(0) - rows.mean(0) @ weight
    torch.testing.assert_close(part.bias.double(), bias, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_strided_padded_convolution_is_the_direct_solution_on_its_patches() -> None:
    source, x, y = nn.Conv2d(3, 4, 3, 2, 1, bias=False), torch.randn(40, 3, 6, 6), torch.randn(40, 3, 6, 6)
    y += x
    part = deepcopy(source)
    refit(part, source, [(x, y)], 0.1)
    patches = F.unfold(x, 3, padding=1, stride=2).transpose(1, 2).flatten(0, 1).double()
    wanted = source(y).permute(0, 2, 3, 1).flatten(0, 2).double()
    weight = _direct(patches, wanted, source.weight.flatten(1).T.double(), 0.1)
    torch.testing.assert_close(part.weight.flatten(1).T.double(), weight, atol=1e-5, rtol=1e-5)
    assert part.bias is None


@torch.no_grad()
def test_a_convolution_that_pads_in_a_way_of_its_own_is_refitted() -> None:
    source = nn.Sequential(nn.Conv2d(3, 4, 1), Conv2dSame(4, 5, 3, 2, bias=False)).eval()
    x, part = torch.randn(40, 3, 7, 7), deepcopy(source)
    part[0].get_parameter("weight").mul_(1.5)
    refit(part, source, [(x, x)], 1e-6)
    torch.testing.assert_close(part(x), source(x), atol=1e-3, rtol=1e-3)


@torch.no_grad()
def test_batchnorm_takes_the_moments_of_what_reaches_it() -> None:
    source = pico.alive(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.ReLU(inplace=True)))
    part, x, y = deepcopy(source), torch.randn(32, 3, 4, 4), torch.randn(32, 3, 4, 4)
    refit(part, source, [(x[:20], y[:20]), (x[20:], y[20:])], 0.1)
    reaching = part[0](x)
    torch.testing.assert_close(part[1].running_mean, reaching.mean((0, 2, 3)))
    torch.testing.assert_close(part[1].running_var, reaching.var((0, 2, 3), correction=0))


@torch.no_grad()
def test_other_layers_stay_and_so_do_source_and_images() -> None:
    source = Twice().eval()
    before, part, x = deepcopy(source.state_dict()), deepcopy(source), torch.randn(8, 4, 6, 6)
    pairs = [(2 * x, x)]
    refit(part, source, pairs, 0.1)
    assert all(torch.equal(v, before[k]) for k, v in source.state_dict().items())
    assert torch.equal(pairs[0][0], 2 * x)
    changed = {k for k, v in part.state_dict().items() if not torch.equal(v, before[k])}
    assert changed == {"once.weight"}
    assert not any(module._forward_hooks for net in (part, source) for module in net.modules())
    refit(part, source, [], 0.1)


@torch.no_grad()
@pytest.mark.parametrize("kind", [pico.PicoViT, pico.PicoResNet])
def test_a_part_behind_a_disturbance_comes_back_to_its_source(kind: type[nn.Module]) -> None:
    """The same inputs leave it as it is; noisy ones are made up for, on images that the fit did not see, too."""
    chain = Chain("net", pico.alive(kind()), pico.IMAGE)
    source, images = chain[1 : len(chain)], torch.rand(192, *pico.IMAGE)
    y = chain[0:1](images)
    batchnorm.batchnorm(source, [y])
    same = deepcopy(source)
    refit(same, source, [(y, y)], 0.1)
    wanted = source(y)
    torch.testing.assert_close(same(y), wanted, atol=0.02 * float(wanted.std()), rtol=0.02)
    x, part = 0.6 * y + 0.3 * y.flip(-1) + 0.2, deepcopy(source)
    refit(part, source, [(x[:64], y[:64]), (x[64:128], y[64:128])], 1e-2)
    errors = [float((p(x)[128:] - wanted[128:]).square().mean()) for p in (part, source)]
    assert errors[0] < 0.7 * errors[1]


def test_threads_may_share_a_source() -> None:
    source = pico.alive(pico.plain())
    torch.manual_seed(1)
    pairs = [(torch.randn(6, *pico.IMAGE), torch.randn(6, *pico.IMAGE)) for _ in range(2)]

    def refitted(_: int) -> list[torch.Tensor]:
        part = deepcopy(source)
        refit(part, source, pairs, 0.1)
        return list(part.state_dict().values())

    expected = refitted(0)
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(refitted, range(8)):
            assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert not any(module._forward_hooks for module in source.modules())


def test_a_convolution_that_normalises_its_weights_stays() -> None:
    source = nn.Sequential(ScaledStdConv2d(3, 4, 3), nn.Conv2d(4, 4, 1))
    part = deepcopy(source)
    x = torch.randn(16, 3, 8, 8)
    refit(part, source, [(x + 0.1 * torch.randn_like(x), x)], 0.1)
    assert torch.equal(part.get_parameter("0.weight"), source.get_parameter("0.weight"))
    assert not torch.equal(part.get_parameter("1.weight"), source.get_parameter("1.weight"))


class Again(nn.Module):
    """Four nodes, of which the second and the last have a convolution in common."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.fc = nn.Conv2d(3, 6, 3, 2, 1), nn.Linear(6, 4)
        first, second, third = (nn.Conv2d(6, 6, 3, padding=1) for _ in range(3))
        nodes = (nn.Sequential(conv, nn.BatchNorm2d(6), nn.ReLU()) for conv in (first, second, third, second))
        self.nodes = nn.Sequential(*nodes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.nodes(self.stem(x)).mean((2, 3)))


@torch.no_grad()
@pytest.mark.parametrize("kind", [pico.PicoResNet, pico.PicoViT, pico.PicoInception, pico.plain, Again])
def test_node_by_node_is_the_whole_run_at_once(kind: Callable[[], nn.Module]) -> None:
    """Bit for bit, wherever it begins and ends; network and images stay as they are."""
    model = pico.alive(kind())
    chain, before = Chain("net", model, pico.IMAGE), deepcopy(model.state_dict())
    images, kept = torch.rand(24, *pico.IMAGE), list[torch.Tensor]()
    for start, stop in ((1, len(chain)), (1, len(chain) - 1), (2, len(chain))):
        y = chain[0:start](images)
        x = 0.6 * y + 0.3 * y.flip(-1) + 0.2
        pairs = [(x[:10], y[:10]), (x[10:], y[10:])]
        kept = [one.clone() for pair in pairs for one in pair]
        whole = deepcopy(chain[start:stop])
        refit(whole, chain[start:stop], pairs, 0.1)
        made = refit_run(chain, start, stop, iter(pairs), (len(pairs), sum(len(x) for x, _ in pairs)), 0.1)
        assert not any(module.training for module in made.modules())
        assert tensor_checksum(made.state_dict()) == tensor_checksum(whole.state_dict())
        assert torch.equal(made(x), whole(x))
        assert not torch.equal(made(x), chain[start:stop](x))
        assert all(torch.equal(a, b) for a, b in zip(kept, [one for pair in pairs for one in pair], strict=True))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@torch.no_grad()
def test_layers_that_nodes_have_in_common_stay() -> None:
    chain = Chain("net", pico.alive(Again()), pico.IMAGE)
    y = chain[0:1](torch.rand(24, *pico.IMAGE))
    own, made = chain[1:4], refit_run(chain, 1, 4, [(2 * y + 0.1, y)], (1, 24), 0.1)
    stayed = {name for name, value in made.state_dict().items() if torch.equal(value, own.state_dict()[name])}
    moved = {name.rsplit(".", 1)[0] for name in own.state_dict() if name not in stayed}
    assert moved == {"nodes.1.1", "nodes.2.0", "nodes.2.1", "nodes.3.1"}


@torch.no_grad()
def test_layers_with_one_weight_stay() -> None:
    """What were good for the one would be wrong for the other."""
    model = nn.Sequential(*(nn.Conv2d(3, 3, 1) for _ in range(3))).eval()
    model[2].weight = model[0].weight
    part, x = deepcopy(model), torch.randn(16, 3, 8, 8)
    refit(part, model, [(x + 0.1 * torch.randn_like(x), x)], 0.1)
    assert part[2].weight is part[0].weight
    moved = {name for name, value in part.state_dict().items() if not torch.equal(value, model.state_dict()[name])}
    assert moved == {"1.weight", "1.bias"}


@torch.no_grad()
def test_a_node_runs_as_often_however_many_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Passes through one node, a layer of it after another: twice as many nodes are twice as many passes."""

    def passes(depth: int) -> int:
        counted = []
        chain = Chain("net", pico.alive(pico.plain(widths=(4,) * depth)), pico.IMAGE)
        y = chain[0:1](torch.rand(6, *pico.IMAGE))
        call = nn.Conv2d.forward

        def counting(self: nn.Conv2d, x: torch.Tensor) -> torch.Tensor:
            counted.append(self)
            return call(self, x)

        with monkeypatch.context() as patch:
            patch.setattr(nn.Conv2d, "forward", counting)
            refit_run(chain, 1, len(chain), [(y + 0.1, y)], (1, 6), 0.1)
        return len(counted)

    few, more, most = (passes(depth) for depth in (3, 5, 7))
    assert most - more == more - few
