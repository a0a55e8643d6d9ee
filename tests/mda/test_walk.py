import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lib.errors import BrickyardError
from lib.mda.walk import Layer, walk
from tests.mda import pico


def test_plain_network() -> None:
    assert walk(pico.plain(), "pico", pico.SHAPE) == (
        Layer("0.0", "conv", 6),
        Layer("1", "conv", 8),
        Layer("6", "linear", 5, 4),
        Layer("9", "linear", 3),
    )


class _Net(nn.Module):
    def __init__(self, groups: int = 1, features: int = 36) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.second = nn.Conv2d(4, 4, 3, padding=1, groups=groups)
        self.classifier = nn.Linear(features, 2)


class Functional(_Net):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.max_pool2d(F.relu(self.first(x)), 2)
        x = F.adaptive_avg_pool2d(torch.relu(self.second(x)), 3)
        return self.classifier(x.view(x.size(0), -1))


class Meaned(_Net):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(F.relu(self.second(F.relu(self.first(x)))).mean((2, 3)))


class Residual(_Net):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        return self.classifier((x + self.second(x)).mean((2, 3)))


class Concatenated(_Net):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        return self.classifier(torch.cat([x, self.second(x)], 1).mean((2, 3)))


class Fixed(_Net):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(F.adaptive_avg_pool2d(self.second(self.first(x)), 3).view(-1, 36))


class Permuted(_Net):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(F.adaptive_avg_pool2d(self.second(self.first(x)), 3).permute(0, 2, 3, 1).flatten(1))


class Twice(_Net):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.second(self.second(self.first(x))).mean((2, 3)))


def test_functional_operations() -> None:
    assert [layer.positions for layer in walk(Functional(), "net", pico.SHAPE)] == [1, 1, 9]
    assert [layer.name for layer in walk(Meaned(features=4), "net", pico.SHAPE)] == ["first", "second", "classifier"]


@pytest.mark.parametrize(
    ("model", "where"),
    [
        (Residual(features=4), r"net: cannot be taken apart at its top level \(add\): more than one path"),
        (Concatenated(features=8), r"its top level \(cat\): more than one path"),
        (Functional(groups=2), r"second \(Conv2d\): a grouped convolution"),
        (Fixed(), r"\(view\): it is not known"),
        (Permuted(), r"\(permute\): it is not known"),
        (Twice(features=4), r"second \(Conv2d\): it is used twice"),
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.Softmax(1), nn.Flatten(), nn.Linear(400, 2)), r"1 \(Softmax\)"),
    ],
)
def test_what_cannot_be_walked_is_named(model: nn.Module, where: str) -> None:
    with pytest.raises(BrickyardError, match=where) as caught:
        walk(model, "net", pico.SHAPE)
    assert "single-path CNNs" in str(caught.value)


def test_residual_network_of_timm_names_the_block() -> None:
    import timm

    model = timm.create_model("resnet18", layers=[1, 1, 1, 1], channels=[4, 4, 4, 4])
    with pytest.raises(BrickyardError, match=r"pico_resnet: cannot be taken apart at layer1\.0"):
        walk(model, "pico_resnet", (3, 32, 32))


def test_no_classifier() -> None:
    with pytest.raises(BrickyardError, match="net: has no classifier"):
        walk(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3)), "net", pico.SHAPE)
    with pytest.raises(BrickyardError, match="net: has no layer before its classifier"):
        walk(nn.Sequential(nn.Flatten(), nn.Linear(432, 2)), "net", pico.SHAPE)
