"""Networks of a few hundred parameters, one for each shape of graph that a chain must survive."""

from typing import TypeVar

import torch
from torch import nn
from torch.nn import functional as F

IMAGE = (3, 16, 16)
M = TypeVar("M", bound=nn.Module)


class Residual(nn.Module):
    """conv-BN-ReLU twice around a shortcut; a 1x1 convolution where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.down = nn.Conv2d(inputs, outputs, 1, stride) if stride > 1 or inputs != outputs else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + self.down(x))


class PicoResNet(nn.Module):
    def __init__(self, num_classes: int = 4, width: int = 6):
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3, 2, 1)
        self.bn = nn.BatchNorm2d(width)
        self.stages = nn.Sequential(
            nn.Sequential(Residual(width, width), Residual(width, width)),
            nn.Sequential(Residual(width, 2 * width, 2), Residual(2 * width, 2 * width)),
        )
        self.fc = nn.Linear(2 * width, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stages(F.relu(self.bn(self.conv(x)), inplace=True))
        return self.fc(x.mean((2, 3)))


class Branches(nn.Module):
    """An Inception-like block: two branches, concatenated."""

    def __init__(self, inputs: int):
        super().__init__()
        self.one = nn.Sequential(nn.Conv2d(inputs, 4, 1), nn.ReLU())
        self.two = nn.Sequential(nn.Conv2d(inputs, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.one(x), self.two(x)], 1)


class PicoInception(nn.Module):
    def __init__(self, num_classes: int = 4):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 2, 1)
        self.blocks = nn.Sequential(Branches(8), Branches(8), Branches(8))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(8, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(torch.flatten(self.pool(self.blocks(self.stem(x))), 1))


class Transformer(nn.Module):
    """Attention and MLP, each around a shortcut: between them one tensor is alive, yet it is one node."""

    def __init__(self, width: int):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.project = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv(self.norm1(x)).chunk(3, -1)
        x = x + self.project(F.scaled_dot_product_attention(q, k, v))
        return x + self.mlp(self.norm2(x))


class PicoViT(nn.Module):
    def __init__(self, num_classes: int = 4, width: int = 8):
        super().__init__()
        self.patches = nn.Conv2d(3, width, 4, 4)
        self.cls = nn.Parameter(torch.randn(1, 1, width) / 8)
        self.position = nn.Parameter(torch.randn(1, 17, width) / 8)
        self.blocks = nn.Sequential(Transformer(width), Transformer(width), Transformer(width))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.cls.expand(x.shape[0], -1, -1), tokens], 1) + self.position
        return self.head(self.norm(self.blocks(tokens))[:, 0])


class TwoStreams(nn.Module):
    """Two tensors cross every boundary but the ends: only the part before and after can be cut."""

    def __init__(self, num_classes: int = 4):
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.left = nn.ModuleList([nn.Conv2d(4, 4, 3, padding=1) for _ in range(3)])
        self.right = nn.ModuleList([nn.Conv2d(4, 4, 3, padding=1) for _ in range(3)])
        self.fc = nn.Linear(4, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        left = right = x
        for a, b in zip(self.left, self.right, strict=True):
            left, right = F.relu(a(left) + right), F.relu(b(right))
        return self.fc((left + right).mean((2, 3)))


class Inseparable(nn.Module):
    """Two tensors are alive from the first operation to the head: it cannot be cut at all."""

    def __init__(self, num_classes: int = 4):
        super().__init__()
        self.left, self.right = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3)
        self.fc = nn.Linear(4, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        left, right = F.relu(self.left(x)), F.relu(self.right(x))
        return self.fc(left.mean((2, 3)) + right.mean((2, 3)))


def plain(num_classes: int = 4, widths: tuple[int, ...] = (6, 8, 8)) -> nn.Sequential:
    """conv-BN-ReLU groups in one sequence, in-place activations, pooling between."""
    layers: list[nn.Module] = []
    inputs = 3
    for width in widths:
        layers += [nn.Conv2d(inputs, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
        inputs = width
    layers.insert(-3, nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, num_classes))


def alive(model: M) -> M:
    """BatchNorm statistics and affine parameters away from their neutral start."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            if module.affine:
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.uniform_(module.bias, -0.5, 0.5)
            if module.running_mean is not None and module.running_var is not None:
                module.running_mean.uniform_(-0.5, 0.5)
                module.running_var.uniform_(0.5, 2)
    return model.eval()
