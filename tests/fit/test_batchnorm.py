"""BatchNorm recalibration."""

import torch
from torch import nn

from lib.fit import batchnorm


def test_statistics_become_the_mean_over_batches() -> None:
    bn = nn.BatchNorm2d(2)
    bn.running_mean = torch.tensor([9.0, 9.0])
    batches = [torch.randn(8, 2, 4, 4) + 3, torch.randn(8, 2, 4, 4) + 5]
    batchnorm.batchnorm(nn.Sequential(bn, nn.Dropout(0.5)), batches)
    means = torch.stack([x.mean((0, 2, 3)) for x in batches]).mean(0)
    assert bn.running_mean is not None
    assert bn.running_var is not None
    torch.testing.assert_close(bn.running_mean, means)
    torch.testing.assert_close(bn.running_var, torch.stack([x.var((0, 2, 3)) for x in batches]).mean(0))
    assert bn.momentum == 0.1
    assert not bn.training


def test_without_batchnorm_nothing_runs() -> None:
    def exploding():
        raise AssertionError("was run")
        yield torch.zeros(1)

    batchnorm.batchnorm(nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2)), exploding())
    assert batchnorm.has_batchnorm(nn.Sequential(nn.BatchNorm2d(3)))
    assert not batchnorm.has_batchnorm(nn.LayerNorm(3))
