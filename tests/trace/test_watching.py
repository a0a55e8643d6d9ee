"""What enters and leaves layers, asked by several threads at once."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from lib.trace.watching import entering, leaving, readers


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Conv2d(4, 2, 1)).eval()


@torch.no_grad()
def test_each_thread_is_told_of_its_own_batch() -> None:
    model, images = network(), torch.randn(16, 2, 3, 8, 8)
    with ThreadPoolExecutor(4) as pool:
        with entering(model, model[3]) as run:
            found = list(pool.map(torch.no_grad()(run), images))
        with leaving(model, {"0": model[0], "3": model[3]}) as both:
            seen = list(pool.map(torch.no_grad()(lambda x: both(x, lambda _, y: y.clone())), images))
    for x, entered, (made, left) in zip(images, found, seen, strict=True):
        assert torch.equal(entered, model[:3](x.clone()))
        assert torch.equal(made, model(x.clone()))
        assert torch.equal(left["0"], model[0](x))
        assert torch.equal(left["3"], made)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_nothing_behind_the_layer_runs() -> None:
    model = network()
    model[3].register_forward_pre_hook(lambda *_: pytest.fail("it ran"))
    with entering(model, model[1]) as run:
        assert run(torch.zeros(1, 3, 8, 8)).shape == (1, 4, 6, 6)


@torch.no_grad()
def test_readers_are_given_what_another_made_untouched() -> None:
    class Touched(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.third = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.second(self.first(x))
            x += 1
            return self.third(x)

    def wanted(layer: nn.Module) -> bool:
        return isinstance(layer, nn.Conv2d | nn.BatchNorm2d)

    assert readers(network(), torch.zeros(2, 3, 8, 8), wanted) == {"1": "0"}
    assert readers(Touched(), torch.zeros(2, 3, 8, 8), wanted) == {"second": "first"}
