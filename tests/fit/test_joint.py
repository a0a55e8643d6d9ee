import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from lib.fit import joint
from lib.fit.joint import Reader, improve
from lib.fit.layer import Goal, refit

CASES: dict[str, tuple[nn.Module, nn.Module, nn.Module, tuple[int, ...]]] = {  # first, between, second, shape
    "plain": (nn.Conv2d(4, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 5, 3), (4, 8, 8)),
    "norm": (
        nn.Conv2d(4, 6, 3, stride=2, bias=False),
        nn.Sequential(nn.BatchNorm2d(6), nn.ReLU()),
        nn.Conv2d(6, 5, 1),
        (4, 9, 9),
    ),
    "pooled": (
        nn.Conv2d(4, 6, 3),
        nn.Sequential(nn.ReLU(inplace=True), nn.MaxPool2d(2)),
        nn.Conv2d(6, 5, 2),
        (4, 8, 8),
    ),
    "groups": (nn.Conv2d(4, 8, 3, groups=2, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=8), (4, 6, 6)),
    "reflected": (
        nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect"),
        nn.ReLU(),
        nn.Conv2d(6, 5, 3, padding="same", dilation=2),
        (4, 8, 8),
    ),
    "flattened": (
        nn.Conv2d(4, 6, 3),
        nn.Sequential(nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()),
        nn.Linear(24, 5),
        (4, 6, 6),
    ),
    "linear": (nn.Linear(12, 6), nn.ReLU(), nn.Linear(6, 3), (12,)),
}


def _case(
    name: str, precision: torch.dtype = torch.float32
) -> tuple[Any, Callable[[torch.Tensor], list[torch.Tensor]], Any, torch.Tensor]:
    torch.manual_seed(0)
    first, between, second, shape = copy.deepcopy(CASES[name])
    for module in (first, between, second):
        for part in module.modules():
            if isinstance(part, nn.Conv2d | nn.Linear | nn.BatchNorm2d):
                part.reset_parameters()  # those of CASES depend on what was imported before
        module.eval().to(precision).requires_grad_(False)
    return first, lambda z: [between(z.clone())], second, torch.randn(20, *shape, dtype=precision)


def _applied(layer: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    own = copy.deepcopy(layer)
    own.weight, own.bias = (None if new is None else nn.Parameter(new, False) for new in (weight, bias))
    return own(x)


@pytest.mark.parametrize("name", CASES)
def test_tangent_is_the_derivative(name: str) -> None:
    """J d is what a small change brings, and J' its transpose."""
    first, between, second, x = _case(name, torch.float64)

    def made(d: torch.Tensor) -> torch.Tensor:
        weight, bias = tangent.split(d)
        (given,) = between(_applied(first, x, at[0] + weight, at[1] + bias))
        return _applied(second, given, second.weight, None)

    at = first.weight, torch.zeros(len(first.weight)).double()
    tangent = joint.Tangent(x, first, between, [second], [second.weight], *at)
    d = torch.randn(first.weight.numel() + len(first.weight)).double()
    (along,) = tangent.times(d)
    torch.testing.assert_close(along, (made(1e-7 * d) - made(-1e-7 * d)) / 2e-7, rtol=1e-4, atol=1e-5)
    error = torch.randn_like(along)
    torch.testing.assert_close((along * error).sum(), (d * tangent.transposed([error], True)).sum())
    assert tangent.transposed([error], False)[-len(first.weight) :].abs().sum() == 0


@pytest.mark.parametrize("name", CASES)
def test_second_layer_misses_less(name: str) -> None:
    """Than after any change of its own weights; its goal is what it made of another first layer's output."""
    first, between, second, x = _case(name)
    goal = Goal(second(*between(first(x))))
    first.weight += 0.5 * first.weight.std() * torch.randn_like(first.weight)
    weight, bias = improve(x, first, between, [Reader(second, goal, True)], 1e-2, True, 0, 3)
    assert not torch.equal(weight, first.weight)

    def missed(given: torch.Tensor) -> float:
        wanted, offset = refit(given, goal, second, 1e-2, True, 0)
        return float((goal.target - _applied(second, given, wanted, offset)).square().mean())

    before = missed(*between(first(x)))
    assert missed(*between(_applied(first, x, weight, bias))) < 0.5 * before


def test_what_lies_below_the_floor_does_not_count() -> None:
    made = torch.tensor([[-1.0, -5.0, 3.0, 2.0]])
    goal = Goal(torch.tensor([[-4.0, 1.0, -2.0, 5.0]]), torch.zeros(1, 4), torch.ones(4))
    assert joint.missed_by(goal, made).tolist() == [[0.0, 6.0, -3.0, 3.0]]
    turned = Goal(-goal.target, torch.zeros(1, 4), -torch.ones(4))
    assert joint.missed_by(turned, -made).tolist() == [[0.0, -6.0, 3.0, -3.0]]


def test_nothing_missed_changes_nothing() -> None:
    first, between, second, x = _case("plain")
    goal = Goal(second(*between(first(x))))
    weight, bias = improve(x, first, between, [Reader(second, goal, True)], 1e-2, True, 0, 2)
    torch.testing.assert_close(weight, first.weight, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(bias, first.bias, atol=1e-4, rtol=1e-3)
