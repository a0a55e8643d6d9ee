"""VGG-16 and GoogLeNet with BatchNorm, for images of 32 pixels and more, as wide as wanted: MDA's experiments."""

from googlenet import STEM, Inception
from torch import nn

VGG16 = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))  # channels of convolutions at width 1
# channels of a module's branches as in googlenet.py, here all nine; None: max-pooling
GOOGLENET = (
    (64, 96, 128, 16, 32, 32),
    (128, 128, 192, 32, 96, 64),
    None,
    (192, 96, 208, 16, 48, 64),
    (160, 112, 224, 24, 64, 64),
    (128, 128, 256, 24, 64, 64),
    (112, 144, 288, 32, 64, 64),
    (256, 160, 320, 32, 128, 128),
    None,
    (256, 160, 320, 32, 128, 128),
    (384, 192, 384, 48, 128, 128),
)


def vgg16(num_classes: int, width: float = 1.0, dropout: float = 0.5) -> nn.Module:
    """Five stages of conv-BN-ReLU groups, each followed by max-pooling, and three linear layers on the mean over space.

    width: what all numbers of channels and the 4096 hidden units are multiplied by. Images [b, 3, h, w] of at least 32
    pixels -> logits [b, num_classes].
    """
    features: list[nn.Module] = []
    channels = 3
    for stage in VGG16:
        for full in stage:
            wide = round(full * width)
            features += [nn.Conv2d(channels, wide, 3, padding=1), nn.BatchNorm2d(wide), nn.ReLU()]
            channels = wide
        features.append(nn.MaxPool2d(2))
    hidden = round(4096 * width)
    classifier = [
        *(nn.Linear(channels, hidden), nn.ReLU(), nn.Dropout(dropout)),
        *(nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout(dropout)),
        nn.Linear(hidden, num_classes),
    ]
    return _network(features, classifier)


def googlenet(num_classes: int, width: float = 1.0, dropout: float = 0.2) -> nn.Module:
    """All nine inception modules, of images of 32 pixels at 16, 8 and 4 pixels, behind a 3x3 convolution.

    width: what all numbers of channels are multiplied by. Images [b, 3, h, w] -> logits [b, num_classes].
    """
    channels = round(STEM * width)
    features: list[nn.Module] = [
        nn.Sequential(nn.Conv2d(3, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()),
        nn.MaxPool2d(2),
    ]
    for branches in GOOGLENET:
        if branches is None:
            features.append(nn.MaxPool2d(2))
            continue
        module = Inception(channels, tuple(max(4, round(full * width)) for full in branches))
        features.append(module)
        channels = module.outputs
    return _network(features, [nn.Dropout(dropout), nn.Linear(channels, num_classes)])


def _network(features: list[nn.Module], classifier: list[nn.Module]) -> nn.Module:
    network = nn.Sequential()
    network.add_module("features", nn.Sequential(*features))
    network.add_module("pool", nn.AdaptiveAvgPool2d(1))
    network.add_module("flatten", nn.Flatten())
    network.add_module("classifier", nn.Sequential(*classifier))
    return network
