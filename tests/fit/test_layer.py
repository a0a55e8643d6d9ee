import pytest
import torch
from torch import nn

from lib.fit.layer import Goal, refit


def _problem(sign: float) -> tuple[torch.Tensor, Goal, nn.Linear]:
    """A linear layer that cannot make its target, half of which a ReLU takes away."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(300, 4, generator=generator)
    target = 2 * torch.randn(300, 3, generator=generator) + x @ torch.randn(4, 3, generator=generator)
    layer = nn.Linear(4, 3)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(3, 4, generator=generator) / 4)
    return x, Goal(target, torch.full_like(target, 0.3), torch.full((3,), sign)), layer


def _loss(weight: torch.Tensor, bias: torch.Tensor, x: torch.Tensor, goal: Goal, layer: nn.Linear) -> torch.Tensor:
    """What is minimised, written out in double precision: ridge 0.1."""
    assert goal.floor is not None
    assert goal.sign is not None
    made, target, floor = (v.double() * goal.sign for v in (x.double() @ weight.T + bias, goal.target, goal.floor))
    error = torch.where(target > floor, made - target, (made - floor).relu())
    centred = (x - x.mean(0)).double()
    penalty = 0.1 * (centred.T @ centred).diagonal().mean()
    return error.square().sum() + penalty * (weight - layer.weight.detach().double()).square().sum()


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_rectified_fit_is_the_minimum(sign: float) -> None:
    """The problem is convex: descent on the loss itself finds the same weights."""
    x, goal, layer = _problem(sign)
    with torch.no_grad():
        weight, bias = refit(x, goal, layer, 0.1, True, 200)
        found = _loss(weight.double(), bias.double(), x, goal, layer)
    by_descent = [tensor.clone().double().requires_grad_() for tensor in (layer.weight.detach(), torch.zeros(3))]
    optimiser = torch.optim.LBFGS(by_descent, max_iter=500, tolerance_grad=1e-9, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        loss = _loss(by_descent[0], by_descent[1], x, goal, layer)
        loss.backward()
        return loss

    optimiser.step(closure)
    assert found.item() == pytest.approx(closure().item(), rel=1e-5)
    torch.testing.assert_close(weight.double(), by_descent[0].detach(), atol=2e-3, rtol=0)
    torch.testing.assert_close(bias.double(), by_descent[1].detach(), atol=2e-3, rtol=0)


@torch.no_grad()
def test_every_step_lowers_the_loss() -> None:
    x, goal, layer = _problem(1.0)
    losses = []
    for steps in (0, 1, 2, 4, 8):
        weight, bias = refit(x, goal, layer, 0.1, True, steps)
        losses.append(_loss(weight.double(), bias.double(), x, goal, layer).item())
    assert losses == sorted(losses, reverse=True)
    assert losses[3] < 0.9 * losses[0]


@torch.no_grad()
def test_groups_and_strides_are_those_of_the_convolution() -> None:
    """Without a target that cannot be made, a convolution finds its own weights from anywhere."""
    torch.manual_seed(0)
    true, start = (nn.Conv2d(4, 6, 3, stride=2, padding=1, dilation=2, groups=2) for _ in range(2))
    x = torch.randn(40, 4, 12, 12)
    weight, bias = refit(x, Goal(true(x)), start, 1e-9, True, 0)
    torch.testing.assert_close(weight, true.weight, atol=1e-4, rtol=0)
    torch.testing.assert_close(bias, true.bias, atol=1e-4, rtol=0)
