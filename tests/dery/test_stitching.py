"""Stitches: every pair of layouts, and fits that are what they claim."""

from itertools import product

import pytest
import torch

from lib.dery.stitching import Stitch, StitchEquations
from lib.layout import Layout

LAYOUTS = [Layout("nchw", 5, 4, 4), Layout("nhwc", 3, 2, 2), Layout("tokens", 6, 4, 4, 1), Layout("tokens", 4, 8, 8)]


@pytest.mark.parametrize(("source", "target"), list(product(LAYOUTS, repeat=2)))
def test_any_layout_becomes_any_other(source: Layout, target: Layout) -> None:
    assert Stitch(source, target)(torch.rand(2, *source.shape)).shape == (2, *target.shape)


def test_the_order_of_resizing_and_mapping_does_not_matter() -> None:
    source, target = Layout("nchw", 3, 4, 4), Layout("nchw", 5, 8, 8)
    stitch, x = Stitch(source, target), torch.rand(2, 3, 4, 4)
    enlarged_first = stitch.channels(torch.nn.functional.interpolate(x, (8, 8), mode="bilinear"))
    torch.testing.assert_close(stitch(x), enlarged_first)


def test_a_linear_relation_is_recovered() -> None:
    source, target = Layout("nchw", 4, 4, 4), Layout("tokens", 6, 4, 4, 1)
    truth = Stitch(source, target)
    equations = StitchEquations(source, target)
    with torch.no_grad():
        for _ in range(4):
            x = torch.randn(16, 4, 4, 4)
            equations.add(x, truth(x))
        fitted, x = equations.solve(1e-8, match_variance=False), torch.randn(2, 4, 4, 4)
        torch.testing.assert_close(fitted(x), truth(x), atol=1e-4, rtol=1e-4)
    assert equations.r2(1e-8) == pytest.approx(1, abs=1e-5)


def test_matched_variance_is_that_of_the_target() -> None:
    layout = Layout("nchw", 3, 4, 4)
    x, y = torch.randn(64, 3, 4, 4), 2 * torch.randn(64, 3, 4, 4)
    y[:, 0] += x[:, 0]
    equations = StitchEquations(layout, layout)
    equations.add(x, y)
    shrunken, matched = (equations.solve(1e-4, match)(x).var((0, 2, 3)) for match in (False, True))
    torch.testing.assert_close(matched, y.var((0, 2, 3)), rtol=0.01, atol=0.01)
    assert (shrunken < 0.5 * matched).all()
