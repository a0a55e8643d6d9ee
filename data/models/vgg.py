"""VGG-13 of Simonyan and Zisserman 2015 with BatchNorm, for images of 32 pixels, as wide as wanted."""

from torch import nn

STAGES = ((64, 64), (128, 128), (256, 256), (512, 512), (512, 512))  # channels of the convolutions at width 1


def vgg13(num_classes: int, width: float = 1.0, dropout: float = 0.5) -> nn.Module:
    """Five stages of two conv-BN-ReLU groups, each followed by max-pooling, and three linear layers.

    width: what all numbers of channels and the 4096 hidden units are multiplied by. Images [b, 3, 32, 32] -> logits
    [b, num_classes].
    """
    features: list[nn.Module] = []
    channels = 3
    for stage in STAGES:
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
    network = nn.Sequential()
    network.add_module("features", nn.Sequential(*features))
    network.add_module("flatten", nn.Flatten())
    network.add_module("classifier", nn.Sequential(*classifier))
    return network
