"""Pico networks with branches, each with another way in which channels meet; random weights, BatchNorms alive."""

from collections.abc import Callable, Collection

import torch
from torch import nn
from torch.nn import functional as F

from data.models.cifar_resnet import CifarResNet
from lib.channels.channels import Coupling
from tests import pico, unusual

SHAPE = (3, 16, 16)


class Dense(nn.Module):
    """DenseNet-like: BN-ReLU-conv on everything before, concatenated."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, 2, 1, bias=False)
        self.norms = nn.ModuleList([nn.BatchNorm2d(6 + 4 * i) for i in range(3)])
        self.convs = nn.ModuleList([nn.Conv2d(6 + 4 * i, 4, 3, padding=1, bias=False) for i in range(3)])
        self.norm = nn.BatchNorm2d(18)
        self.fc = nn.Linear(18, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for norm, conv in zip(self.norms, self.convs, strict=True):
            x = torch.cat([x, conv(F.relu(norm(x)))], 1)
        return self.fc(F.relu(self.norm(x)).mean((2, 3)))


class Excited(nn.Module):
    """MobileNet-like: expansion, depthwise convolution, squeeze-excitation, projection, around a shortcut."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, 2, 1)
        self.expand = nn.Sequential(nn.Conv2d(6, 12, 1, bias=False), nn.BatchNorm2d(12), nn.SiLU(inplace=True))
        self.deep = nn.Sequential(nn.Conv2d(12, 12, 3, 1, 1, groups=12, bias=False), nn.BatchNorm2d(12), nn.SiLU())
        self.reduce, self.gate = nn.Conv2d(12, 5, 1), nn.Conv2d(5, 12, 1)
        self.project = nn.Sequential(nn.Conv2d(12, 6, 1, bias=False), nn.BatchNorm2d(6))
        self.norm = nn.GroupNorm(3, 6)
        self.fc = nn.Linear(6, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        y = self.deep(self.expand(x))
        y = y * self.gate(F.relu(self.reduce(y.mean((2, 3), keepdim=True)))).sigmoid()
        return self.fc(self.norm(self.project(y) + x).mean((2, 3)))


class Grouped(nn.Module):
    """ResNeXt-like: three groups of two channels, a layer scale, a spatial gate, a written shape, a bias-free head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, 2, 1)
        self.groups = nn.Conv2d(6, 12, 3, padding=1, groups=3)
        self.scale = nn.Parameter(torch.rand(12, 1, 1) + 0.5)
        self.where = nn.Conv2d(12, 1, 1)
        self.act = nn.PReLU(12)
        self.fc = nn.Linear(12 * 4, 4, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.groups(F.relu(self.stem(x))) * self.scale
        x = self.act(x * self.where(x).sigmoid())
        return self.fc(F.adaptive_avg_pool2d(x, 2).view(-1, 48))


def residual() -> nn.Module:
    """Option-A shortcuts, which pad channels: 8 blocks are too many for a test, 3 do."""
    return CifarResNet(8, 4)


BUILDERS: dict[str, Callable[[], nn.Module]] = {
    "plain": pico.plain,
    "resnet": pico.PicoResNet,
    "inception": pico.PicoInception,
    "option_a": residual,
    "dense": Dense,
    "excited": Excited,
    "grouped": Grouped,
    **{name: unusual.ALL[name] for name in unusual.COUPLED},
}


def build(name: str, seed: int = 0) -> nn.Module:
    """One of BUILDERS."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return pico.alive(BUILDERS[name]())


def some(coupling: Coupling, share: float, seed: int = 0) -> frozenset[int]:
    """A random `share` of every stream's channels, at least one, and what cannot be taken out."""
    generator = torch.Generator().manual_seed(seed)
    chosen = set(coupling.fixed)
    for stream in coupling.streams:
        count = max(1, round(share * len(stream)))
        chosen |= {stream[i] for i in torch.randperm(len(stream), generator=generator)[:count]}
    return frozenset(chosen)


@torch.no_grad()
def masked(model: nn.Module, coupling: Coupling, chosen: Collection[int], x: torch.Tensor) -> torch.Tensor:
    """Logits of `model` with zeros, before every layer, where it reads a channel that is not chosen."""
    handles = []
    for layer in coupling.layers:
        keep = torch.tensor([float(c in chosen) for c in layer.inputs]).repeat_interleave(layer.positions)

        def hook(_: nn.Module, given: tuple[torch.Tensor, ...], keep: torch.Tensor = keep) -> tuple[torch.Tensor]:
            return (given[0] * keep.view(1, -1, *[1] * (given[0].ndim - 2)),)

        handles.append(model.get_submodule(layer.name).register_forward_pre_hook(hook))
    try:
        logits = model(x)
    finally:
        for handle in handles:
            handle.remove()
    return logits[:, [i for i, c in enumerate(coupling.classifier.outputs) if c in chosen]]
