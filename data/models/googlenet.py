"""A GoogLeNet (Szegedy et al. 2015) with BatchNorm, for images of 32 pixels: short, and as wide as wanted."""

import torch
from torch import nn

# channels of a module's branches: 1x1; 3x3 reduced, 3x3; 5x5 reduced, 5x5; behind the pool. None: max-pooling
MODULES = (
    (64, 96, 128, 16, 32, 32),  # 3a
    (128, 128, 192, 32, 96, 64),  # 3b
    None,
    (192, 96, 208, 16, 48, 64),  # 4a
    (112, 144, 288, 32, 64, 64),  # 4d
    None,
    (384, 192, 384, 48, 128, 128),  # 5b
)
STEM = 128


def _conv(inputs: int, outputs: int, size: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, size, padding=size // 2, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
    )


class Inception(nn.Module):
    """Four branches side by side: 1x1, 3x3, 5x5 and pooling, whose channels are concatenated."""

    def __init__(self, inputs: int, branches: tuple[int, ...]):
        super().__init__()
        one, reduced3, three, reduced5, five, pooled = branches
        self.one = _conv(inputs, one, 1)
        self.three = nn.Sequential(_conv(inputs, reduced3, 1), _conv(reduced3, three, 3))
        self.five = nn.Sequential(_conv(inputs, reduced5, 1), _conv(reduced5, five, 5))
        self.pooled = nn.Sequential(nn.MaxPool2d(3, 1, 1), _conv(inputs, pooled, 1))
        self.outputs = one + three + five + pooled

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[b, inputs, h, w] -> [b, outputs, h, w]"""
        return torch.cat([self.one(x), self.three(x), self.five(x), self.pooled(x)], 1)


def googlenet(num_classes: int, width: float = 1.0, dropout: float = 0.2) -> nn.Module:
    """Five of the nine inception modules, at 16, 8 and 4 pixels, behind a 3x3 convolution.

    width: what all numbers of channels are multiplied by. Images [b, 3, 32, 32] -> logits [b, num_classes].
    """
    channels = round(STEM * width)
    features: list[nn.Module] = [_conv(3, channels, 3), nn.MaxPool2d(2)]
    for branches in MODULES:
        if branches is None:
            features.append(nn.MaxPool2d(2))
            continue
        module = Inception(channels, tuple(max(4, round(full * width)) for full in branches))
        features.append(module)
        channels = module.outputs
    network = nn.Sequential()
    network.add_module("features", nn.Sequential(*features))
    network.add_module("pool", nn.AdaptiveAvgPool2d(1))
    network.add_module("flatten", nn.Flatten())
    network.add_module("dropout", nn.Dropout(dropout))
    network.add_module("classifier", nn.Linear(channels, num_classes))
    return network
