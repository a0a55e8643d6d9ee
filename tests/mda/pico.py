"""Pico networks with random weights and BatchNorm statistics, and the published definition written out naively."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from lib.params.contributions import Contributions, Threshold
from lib.trace import cost
from lib.zoo.architecture import Architecture
from lib.zoo.card import Card, Input


def plain(num_classes: int = 3, widths: tuple[int, int, int] = (6, 8, 5), seed: int = 0) -> nn.Sequential:
    """Two convolutions (one strided and dilated), a flattened 2 x 2 map, two linear layers; for images of 12 px."""
    a, b, c = widths
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = nn.Sequential(
            nn.Sequential(nn.Conv2d(3, a, 3, padding=1), nn.BatchNorm2d(a), nn.ReLU(inplace=True), nn.MaxPool2d(2)),
            nn.Conv2d(a, b, 3, stride=2, dilation=2, padding=1, bias=False),
            nn.BatchNorm2d(b),
            nn.SiLU(),
            nn.Flatten(),
            nn.Dropout(),
            nn.Linear(b * 4, c),
            nn.BatchNorm1d(c),
            nn.ReLU(),
            nn.Linear(c, num_classes),
        )
        for module in model.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                for tensor in (module.running_mean, module.running_var, module.weight, module.bias):
                    assert tensor is not None
                    nn.init.uniform_(tensor, 0.2, 1.5)
    return model.eval()


LAYERS = ("0.0", "1", "6", "9")
SHAPE = (3, 12, 12)


def weight(model: nn.Module, layer: str) -> torch.Tensor:
    return model.get_parameter(f"{layer}.weight")


def images(n: int = 4, seed: int = 1, shape: tuple[int, ...] = SHAPE) -> torch.Tensor:
    return torch.randn(n, *shape, generator=torch.Generator().manual_seed(seed))


def contributions(**changed: Any) -> Contributions:
    """The section of params, with low thresholds; changed: keys that are to be others."""
    threshold = Threshold(alpha=0.3, beta=0.2)
    given = {"models": ["pico"], "images_per_class": 4, "conv": threshold, "linear": threshold, "batch_size": 4}
    return Contributions(**{**given, **changed})


def naive_conv(x: torch.Tensor, layer: Any) -> torch.Tensor:
    """[O, I / groups] by all partial convolutions [B, O, I / groups, H, W]."""
    deep, wide = layer.in_channels // layer.groups, layer.out_channels // layer.groups
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    x = F.pad(x, layer._reversed_padding_repeated_twice, mode=mode)
    out = torch.zeros(layer.out_channels, deep, dtype=x.dtype)
    for o in range(layer.out_channels):
        for i in range(deep):
            kernel, channel = layer.weight[o : o + 1, i : i + 1], o // wide * deep + i
            part = F.conv2d(x[:, channel : channel + 1], kernel, None, layer.stride, 0, layer.dilation)
            out[o, i] = part.sum((1, 2, 3)).relu().sum()
    return out.detach()


def naive_linear(x: torch.Tensor, layer: Any, positions: int = 1) -> torch.Tensor:
    """[O, I] by all products [B, O, I, positions]."""
    parts = (x[:, None, :] * layer.weight[None]).unflatten(2, (-1, positions))
    return parts.sum(3).relu().sum(0).detach()


def card(name: str, model: nn.Module, classes: tuple[str, ...], kwargs: dict[str, int]) -> Card:
    """A card that says the network comes from `plain` of this file."""
    architecture = Architecture(None, None, "tests.mda.pico:plain", None, kwargs, len(classes))
    expected = Input(12, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "bicubic", 1.0)
    return Card(name, architecture, expected, classes, (), "train", "Apache-2.0", cost.count(model, SHAPE), None)
