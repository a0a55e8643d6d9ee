import torch
from torch import nn

from lib.network import scaling


def test_fold() -> None:
    by = scaling.Scaling((1.0, 0.5, 3.0), (0.0, 2.0, -1.0))
    for layer in (nn.Linear(4, 3), nn.Linear(4, 3, bias=False), nn.Conv2d(4, 3, 1)):
        x = torch.randn(5, 4) if isinstance(layer, nn.Linear) else torch.randn(5, 4, 1, 1)
        expected = by(layer(x).flatten(1))
        scaling.fold(layer, by)
        torch.testing.assert_close(layer(x).flatten(1), expected)


def test_one_scaling_after_another() -> None:
    first, later = scaling.Scaling((2.0, 3.0), (1.0, 0.0)), scaling.Scaling((0.5, -1.0), (0.0, 4.0))
    logits = torch.randn(3, 2)
    torch.testing.assert_close(first.then(later)(logits), later(first(logits)))


def test_behind_a_network() -> None:
    network, by = nn.Linear(4, 2).eval(), scaling.Scaling((0.5, 3.0), (2.0, -1.0))
    x = torch.randn(5, 4)
    found = scaling.Scaled(network, by)
    torch.testing.assert_close(found(x), by(network(x)))
    assert not found.training
