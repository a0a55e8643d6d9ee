"""A residual network of bottleneck blocks (He et al. 2015), timm's ResNet-50 made small, for images of 32 pixels."""

from collections.abc import Sequence

import timm
from torch import nn


def bottleneck_resnet(
    num_classes: int, layers: Sequence[int] = (3, 4, 6, 3), channels: Sequence[int] = (64, 128, 256, 512)
) -> nn.Module:
    """`layers`: blocks of each stage; `channels`: inside them, their outputs have four times as many.

    The first convolution is 3x3 without stride. Images [b, 3, 32, 32] -> logits [b, num_classes].
    """
    network = timm.create_model("resnet50", num_classes=num_classes, layers=list(layers), channels=list(channels))
    first = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(first.weight, mode="fan_out", nonlinearity="relu")
    network.add_module("conv1", first)
    return network
