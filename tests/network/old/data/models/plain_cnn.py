"""A plain convolutional network with BatchNorm, small enough to train in seconds; also an example of a `factory`.

A factory takes `num_classes` and the keyword arguments of its entry in params.yaml and returns an `nn.Module` that
maps images [b, 3, H, W] to logits [b, num_classes].
"""

from torch import nn


def plain_cnn(num_classes: int, widths: tuple[tuple[int, ...], ...] = ((24, 24), (48, 48), (96, 96))) -> nn.Module:
    """Stages of conv-BN-ReLU groups, `widths` giving the channels of each, with max-pooling between the stages."""
    features: list[nn.Module] = []
    channels = 3
    for stage, stage_widths in enumerate(widths):
        if stage:
            features.append(nn.MaxPool2d(2))
        for width in stage_widths:
            features += [nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
            channels = width
    return nn.Sequential(
        nn.Sequential(*features), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_classes)
    )
