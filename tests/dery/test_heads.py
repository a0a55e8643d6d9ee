"""Heads in closed form are what they claim."""

import torch

from lib.dery.heads import LinearHead, fit_head
from lib.layout import Layout


def _clusters(noise: float) -> tuple[Layout, torch.Tensor, torch.Tensor]:
    y = torch.arange(300) % 3
    x = torch.randn(3, 6)[y][:, :, None, None] + noise * torch.randn(300, 6, 2, 2)
    return Layout("nchw", 6, 2, 2), x, y


def test_a_head_separates_what_is_separable() -> None:
    layout, x, y = _clusters(0.1)
    head = fit_head(layout, [(x[:100], y[:100]), (x[100:], y[100:])], 3, 1e-4)
    assert isinstance(head, LinearHead)
    assert (head(x).argmax(1) == y).all()


@torch.no_grad()
def test_the_scale_of_a_head_has_the_least_cross_entropy() -> None:
    layout, x, y = _clusters(3.0)
    logits = fit_head(layout, [(x, y)], 3, 1e-4)(x)
    low, least, high = (float(torch.nn.functional.cross_entropy(s * logits, y)) for s in (0.95, 1.0, 1.05))
    assert least < low
    assert least < high
