"""Stitches: every pair of layouts, and fits that are what they claim."""

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
import torch
from torch import nn

from lib.chain.layout import Layout
from lib.dery.assembly.stitching import Stitch, StitchEquations, identity, paper, random, takes_patches
from lib.network.modules import Form, make_stitch

LAYOUTS = [Layout("nchw", 5, 4, 4), Layout("nhwc", 3, 2, 2), Layout("tokens", 6, 4, 4, 1), Layout("tokens", 4, 8, 8)]


@pytest.mark.parametrize("form", ["linear", "paper"])
@pytest.mark.parametrize(("source", "target"), list(product(LAYOUTS, repeat=2)))
def test_any_layout_becomes_any_other(source: Layout, target: Layout, form: Form) -> None:
    for patch in (1, 2) if takes_patches(source, target) else (1,):
        assert make_stitch(source, target, patch, form)(torch.rand(2, *source.shape)).shape == (2, *target.shape)


def test_the_papers_stitch_is_the_authors_modules_one_after_another() -> None:
    """Their modes: cnn2cnn with stride 2, cnn2vit and vit2cnn on the map, vit2vit token by token."""
    cnn, small = Layout("nchw", 5, 4, 4), Layout("nchw", 3, 2, 2)
    vit, other = Layout("tokens", 6, 4, 4), Layout("tokens", 7, 4, 4)
    x, tokens = torch.randn(8, 5, 4, 4), torch.randn(8, 16, 6)
    for source, target, patch, given in ((cnn, small, 2, x), (cnn, vit, 1, x), (vit, cnn, 1, tokens)):
        stitch = paper(source, target, patch, 5).train()
        norm: Any = nn.BatchNorm2d(source.channels)
        conv = nn.Conv2d(source.channels, target.channels, patch, patch, bias=False)
        conv.weight = stitch.channels.weight
        y = nn.Sequential(norm, conv, nn.LeakyReLU(0.1))(source.to_map(given))
        torch.testing.assert_close(stitch(given), target.from_map(y))
        assert sum(p.numel() for p in stitch.parameters()) == 2 * source.channels + conv.weight.numel()
        running = (stitch.norm.running_mean, stitch.norm.running_var)
        for found, expected in zip(running, (norm.running_mean, norm.running_var), strict=True):
            assert isinstance(found, torch.Tensor)
            assert torch.equal(found, expected)
    stitch, linear = paper(vit, other, 1, 5), nn.Linear(6, 7, bias=False)
    linear.weight = nn.Parameter(stitch.channels.weight.flatten(1))
    y = nn.Sequential(nn.LayerNorm(6), linear, nn.LeakyReLU(0.1))(tokens)
    torch.testing.assert_close(stitch(tokens), y)
    assert sum(p.numel() for p in stitch.parameters()) == 12 + 42
    assert not any(isinstance(module, nn.BatchNorm2d) for module in stitch.modules())


def test_patches_are_for_grids_that_shrink_by_an_even_factor() -> None:
    big, small = Layout("tokens", 3, 8, 8, 1), Layout("nchw", 5, 2, 2)
    assert takes_patches(big, small)
    for other in (Layout("nchw", 5, 8, 8), Layout("nchw", 5, 3, 3), Layout("nchw", 5, 2, 8)):
        assert not takes_patches(big, other)


def test_a_patch_sees_the_positions_that_pooling_mixes() -> None:
    source, target = Layout("nhwc", 3, 8, 8), Layout("nchw", 5, 2, 2)
    stitch, x = Stitch(source, target, 2), torch.randn(4, 8, 8, 3)
    pooled = torch.nn.functional.avg_pool2d(x.permute(0, 3, 1, 2), 2)
    torch.testing.assert_close(stitch(x), stitch.channels(pooled))
    assert stitch.to_dict() == {"source": source.to_dict(), "target": target.to_dict(), "patch": 2}


@torch.no_grad()
def test_the_fit_that_holds_on_other_images_tells_pooling_from_patches() -> None:
    source, target = Layout("nchw", 4, 4, 4), Layout("tokens", 6, 2, 2, 1)
    for patch in (1, 2):
        true, forms = Stitch(source, target, patch), [StitchEquations(source, target, p) for p in (1, 2)]
        x = torch.randn(60, 4, 4, 4)
        y = true(x) + 0.5 * torch.randn(60, *target.shape)
        for form in forms:
            for a, b in zip(x.split(15), y.split(15), strict=True):
                form.add(a, b)
        pool, side = (form.held_out_r2(1e-4) for form in forms)
        assert (pool > side) == (patch == 1)
        kept, other = StitchEquations(source, target, patch), torch.arange(60) % 4 == 3
        kept.add(x[~other], y[~other])
        predicted, wanted = target.to_map(kept.fitted(1e-4)(x[other])), target.to_map(y[other])
        spread = wanted - wanted.mean((0, 2, 3), keepdim=True)
        expected = 1 - (predicted - wanted).square().sum() / spread.square().sum()
        assert forms[patch - 1].held_out_r2(1e-4) == pytest.approx(float(expected), abs=1e-4)
    alone = StitchEquations(source, target)
    alone.add(torch.randn(3, 4, 4, 4), torch.randn(3, *target.shape))
    assert alone.held_out_r2(1e-4) == float("-inf")


@torch.no_grad()
@pytest.mark.parametrize("draw", [random, paper])
def test_a_random_stitch_depends_on_its_seed_alone(draw: Callable[[Layout, Layout, int, int], Stitch]) -> None:
    source, target = Layout("nchw", 16, 4, 4), Layout("tokens", 6, 2, 2, 1)
    stitch = draw(source, target, 2, 5)
    torch.rand(3)
    again, other = (draw(source, target, 2, seed).state_dict() for seed in (5, 6))
    for name, values in stitch.state_dict().items():
        assert torch.equal(values, again[name])
        assert torch.equal(values, other[name]) == name.startswith("norm.")
    assert 0.1 < float(stitch.channels.weight.abs().max()) <= (16 * 4) ** -0.5


@torch.no_grad()
@pytest.mark.parametrize("patch", [1, 2])
def test_identity_keeps_channels_where_both_have_them(patch: int) -> None:
    x = torch.randn(2, 4, 4, 4)
    pooled = torch.nn.functional.avg_pool2d(x, 2)
    wide = identity(Layout("nchw", 4, 4, 4), Layout("nchw", 6, 2, 2), patch)(x)
    torch.testing.assert_close(wide[:, :4], pooled)
    assert (wide[:, 4:] == 0).all()
    tokens = identity(Layout("nchw", 4, 4, 4), Layout("tokens", 3, 2, 2, 1), patch)(x)
    torch.testing.assert_close(tokens[:, 1:], pooled[:, :3].flatten(2).transpose(1, 2))
    torch.testing.assert_close(tokens[:, 0], x.mean((2, 3))[:, :3])
    torch.testing.assert_close(identity(Layout("nchw", 4, 4, 4), Layout("nchw", 4, 4, 4), 1)(x), x)


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
        fitted, x = equations.fitted(1e-8), torch.randn(2, 4, 4, 4)
        torch.testing.assert_close(fitted(x), truth(x), atol=1e-4, rtol=1e-4)
    assert equations.r2(1e-8) == pytest.approx(1, abs=1e-5)


def test_matched_variance_is_that_of_the_target() -> None:
    layout = Layout("nchw", 3, 4, 4)
    x, y = torch.randn(64, 3, 4, 4), 2 * torch.randn(64, 3, 4, 4)
    y[:, 0] += x[:, 0]
    equations = StitchEquations(layout, layout)
    equations.add(x, y)
    fitted = equations.fitted(1e-4)
    shrunken, matched = (stitch(x).var((0, 2, 3)) for stitch in (fitted, equations.matched(fitted)))
    torch.testing.assert_close(matched, y.var((0, 2, 3)), rtol=0.01, atol=0.01)
    assert (shrunken < 0.5 * matched).all()
