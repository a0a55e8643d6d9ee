"""Teachers of a distillation see the images as they want them."""

import torch
from torch import nn
from torch.nn import functional as F

from lib.zoo.adapter import Prepared
from lib.zoo.card import Input

GIVEN = Input(16, (0.5, 0.4, 0.3), (0.2, 0.25, 0.3), "bicubic", 1.0)


def _normalised(image: torch.Tensor, expected: Input) -> torch.Tensor:
    mean, std = (torch.tensor(v)[:, None, None] for v in (expected.mean, expected.std))
    return (image - mean) / std


def test_a_teacher_normalises_anew() -> None:
    own = Input(16, (0.1, 0.2, 0.3), (0.5, 0.6, 0.7), "bicubic", 1.0)
    image = torch.rand(2, 3, 16, 16)
    seen = Prepared(nn.Identity(), own, GIVEN)(_normalised(image, GIVEN))
    torch.testing.assert_close(seen, _normalised(image, own))


def test_a_teacher_resizes() -> None:
    own = Input(8, GIVEN.mean, GIVEN.std, "bicubic", 1.0)
    image = torch.rand(2, 3, 1, 1).expand(2, 3, 16, 16)
    seen = Prepared(nn.Identity(), own, GIVEN)(_normalised(image, GIVEN))
    assert seen.shape == (2, 3, 8, 8)
    torch.testing.assert_close(seen, F.avg_pool2d(_normalised(image, own), 2))


def test_a_teacher_stays_in_eval_mode() -> None:
    teacher = Prepared(nn.Sequential(nn.Dropout(0.5)).eval(), GIVEN, GIVEN)
    x = torch.rand(2, 3, 16, 16)
    torch.testing.assert_close(teacher(x), x)
