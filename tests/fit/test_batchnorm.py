"""BatchNorm recalibration."""

import pytest
import torch
from torch import nn

from lib.fit import batchnorm


def test_statistics_become_those_of_all_that_arrives() -> None:
    """Of batches of different sizes, as if they were one; a mean that is large beside deviations costs no digits."""
    bn = nn.BatchNorm2d(2)
    bn.running_mean = torch.tensor([9.0, 9.0])
    batches = [1000 + torch.randn(8, 2, 4, 4), 1002 + torch.randn(3, 2, 4, 4), 1001 + torch.randn(9, 2, 4, 4)]
    batchnorm.batchnorm(nn.Sequential(nn.Dropout(0.5), bn), batches)
    everything = torch.cat(batches).double()
    assert bn.running_mean is not None
    assert bn.running_var is not None
    torch.testing.assert_close(bn.running_mean, everything.mean((0, 2, 3)).float())
    torch.testing.assert_close(bn.running_var, everything.var((0, 2, 3), correction=0).float())
    assert bn.momentum == 0.1
    assert not bn.training
    assert not bn._forward_pre_hooks


def test_each_batch_is_normalised_by_its_own_statistics_on_the_way() -> None:
    first, second = nn.BatchNorm1d(3, affine=False), nn.BatchNorm1d(3, affine=False)
    batchnorm.batchnorm(nn.Sequential(first, second), [5 + torch.randn(16, 3), 9 * torch.randn(16, 3)])
    assert second.running_mean is not None
    assert second.running_var is not None
    torch.testing.assert_close(second.running_mean, torch.zeros(3), atol=1e-6, rtol=0)
    torch.testing.assert_close(second.running_var, torch.ones(3), atol=1e-4, rtol=0)


@pytest.mark.parametrize("sizes", [(16, 16, 1), (1, 16, 16), (1, 1, 1)], ids=str)
def test_a_batch_of_one_image_counts_where_maps_are_of_one_pixel(sizes: tuple[int, ...]) -> None:
    """It has no variance of its own, and goes through by the layer's running statistics."""
    first, second = nn.BatchNorm2d(3), nn.BatchNorm2d(3)
    network = nn.Sequential(first, second)
    batches = [5 + 2 * torch.randn(size, 3, 1, 1) for size in sizes]
    batchnorm.batchnorm(network, batches)
    everything = torch.cat(batches)
    assert first.running_mean is not None
    assert first.running_var is not None
    torch.testing.assert_close(first.running_mean, everything.mean((0, 2, 3)))
    torch.testing.assert_close(first.running_var, everything.var((0, 2, 3), correction=0))
    assert not any(module.training for module in network.modules())
    assert network(everything).isfinite().all()


def test_without_batchnorm_nothing_runs() -> None:
    def exploding():
        raise AssertionError("was run")
        yield torch.zeros(1)

    batchnorm.batchnorm(nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2)), exploding())
    assert batchnorm.has_batchnorm(nn.Sequential(nn.BatchNorm2d(3)))
    assert not batchnorm.has_batchnorm(nn.LayerNorm(3))


@torch.no_grad()
def test_of_a_single_batch_what_was_made_is_what_will_be_made() -> None:
    module = nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.ReLU(), nn.Conv2d(5, 4, 1), nn.BatchNorm2d(4))
    x = torch.randn(12, 3, 6, 6)
    made = batchnorm.batchnorm(module, [x])
    assert made is not None
    torch.testing.assert_close(made, module(x), atol=1e-5, rtol=1e-5)
    assert batchnorm.batchnorm(module, [x[:6], x[6:]]) is None
    shared = nn.BatchNorm2d(3)
    assert batchnorm.batchnorm(nn.Sequential(shared, nn.ReLU(), shared), [x]) is None, (
        "its statistics are those of both calls"
    )
    assert batchnorm.batchnorm(nn.BatchNorm2d(3), [x[:1, :, :1, :1]]) is None, "one value has no statistics"
    assert batchnorm.batchnorm(nn.ReLU(), [x]) is None
