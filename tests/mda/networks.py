"""Pico networks with branches, each with another way in which channels meet; random weights, BatchNorms alive."""

from collections.abc import Callable, Collection
from typing import Any

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


class Windows(nn.Module):
    """Swin-like: attention within windows of a map with channels last, a table of relative positions, a strength for
    each head; then channels that are gated by an indexed squeeze-excitation.
    """

    def __init__(self, talking: bool = False) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 12, 4, 4)
        self.norm, self.qkv, self.proj = nn.LayerNorm(12), nn.Linear(12, 3 * 12), nn.Linear(12, 12)
        self.table = nn.Parameter(torch.randn(9, 3))
        index = torch.arange(2)
        places = torch.stack(torch.meshgrid(index, index, indexing="ij")).flatten(1)
        apart = places[:, :, None] - places[:, None] + 1
        self.index: torch.Tensor
        self.register_buffer("index", apart[0] * 3 + apart[1], persistent=False)
        self.strength = nn.Parameter(torch.rand(3, 1, 1) + 0.5)
        self.talk = nn.Linear(3, 3) if talking else None
        self.deep, self.squeeze, self.gate = nn.Conv2d(12, 10, 3, padding=1), nn.Linear(10, 4), nn.Linear(4, 10)
        self.fc = nn.Linear(10, 4)

    def attend(self, x: torch.Tensor) -> torch.Tensor:
        b, h, w, c = x.shape
        x = x.view(b, h // 2, 2, w // 2, 2, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, 4, c)
        q, k, v = self.qkv(x).reshape(x.shape[0], 4, 3, 3, c // 3).permute(2, 0, 3, 1, 4).unbind(0)
        scores = q @ k.transpose(-2, -1) * self.strength + self.table[self.index].permute(2, 0, 1)
        weights = scores.softmax(-1)
        if self.talk is not None:
            weights = self.talk(weights.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        x = self.proj((weights @ v).transpose(1, 2).reshape(x.shape[0], 4, c))
        return x.view(b, h // 2, w // 2, 2, 2, c).permute(0, 1, 3, 2, 4, 5).reshape(b, h, w, c)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x).permute(0, 2, 3, 1)
        x = self.deep((x + self.attend(self.norm(x))).permute(0, 3, 1, 2))
        gate = self.gate(F.relu(self.squeeze(x.mean((2, 3))))).sigmoid()
        return self.fc((x * gate[:, :, None, None]).mean((2, 3)))


def transformer() -> nn.Module:
    """timm's, with norms of queries and keys, layer scales and gated MLPs."""
    from timm.layers import GluMlp
    from timm.models.vision_transformer import VisionTransformer

    sizes: dict[str, Any] = {"img_size": 16, "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 4}
    kinds: dict[str, Any] = {"qk_norm": True, "init_values": 0.5, "mlp_layer": GluMlp, "mlp_ratio": 1.5}
    return VisionTransformer(**sizes, **kinds, num_classes=4)


def convnext() -> nn.Module:
    """timm's ConvNeXt V2, whose norms of the response (GRN) are awake."""
    from timm.models.convnext import ConvNeXt

    sizes: dict[str, Any] = {"depths": (1, 1, 1, 1), "dims": (6, 8, 8, 8), "patch_size": 2, "output_stride": 8}
    model = ConvNeXt(num_classes=4, **sizes, use_grn=True, ls_init_value=1.0)
    for name, parameter in model.named_parameters():
        if "grn" in name:
            nn.init.uniform_(parameter, -1, 1)
    return model


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
    "windows": Windows,
    "talking": lambda: Windows(talking=True),
    "transformer": transformer,
    "convnext": convnext,
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

        def last(_: nn.Module, given: tuple[torch.Tensor, ...], keep: torch.Tensor = keep) -> tuple[torch.Tensor]:
            return (given[0] * keep,)

        module = model.get_submodule(layer.name)
        handles.append(module.register_forward_pre_hook(last if isinstance(module, nn.Linear) else hook))
    for path, module in model.named_modules():
        if type(module).__name__ == "GlobalResponseNorm":  # its mean counts what is taken out as zeros
            rows = coupling.axes[f"{path}.weight"][0] or ()
            seen = torch.tensor([float(c in chosen) for c in rows])
            if module.channel_dim == 1:
                seen = seen.view(-1, 1, 1)
            handles.append(module.register_forward_pre_hook(lambda _, given, seen=seen: (given[0] * seen,)))
    try:
        logits = model(x)
    finally:
        for handle in handles:
            handle.remove()
    return logits[:, [i for i, c in enumerate(coupling.classifier.outputs) if c in chosen]]
