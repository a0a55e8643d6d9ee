"""Layouts: maps and back."""

import pytest
import torch

from lib.chain.layout import Layout

CASES = [
    (Layout("nchw", 5, 2, 3), (4, 5, 2, 3)),
    (Layout("nhwc", 5, 2, 3), (4, 2, 3, 5)),
    (Layout("tokens", 5, 3, 3, 2), (4, 11, 5)),
    (Layout("windows", 5, 4, 6, window=2), (4, 6, 4, 5)),
    (Layout("pooled", 5), (4, 5)),
]


@pytest.mark.parametrize(("layout", "shape"), CASES)
def test_map_and_back(layout: Layout, shape: tuple[int, ...]) -> None:
    x = torch.rand(shape)
    assert layout.shape == shape[1:]
    prefix = x[:, : layout.prefix] if layout.prefix else None
    assert torch.equal(layout.from_map(layout.to_map(x), prefix), x)
    assert layout.to_map(x).shape == (4, 5, layout.height, layout.width)
    torch.testing.assert_close(layout.pool(x), layout.to_map(x).mean((2, 3)))


def test_grids_have_the_images_proportions() -> None:
    wide = (32, 64)
    assert Layout.of(torch.zeros(1, 33, 7), prefix=1, image=wide) == Layout("tokens", 7, 4, 8, 1)
    assert Layout.of(torch.zeros(1, 33, 7), image=wide) == Layout("tokens", 7, 4, 8, 1)
    assert Layout.of(torch.zeros(1, 32, 7), prefix=1, image=wide) == Layout("tokens", 7, 4, 8, 0)  # not there yet
    assert Layout.of(torch.zeros(1, 84, 7), image=(224, 100)) == Layout("tokens", 7, 14, 6, 0)
    assert Layout.of(torch.zeros(1, 4, 8, 7), channels_last=True, image=wide) == Layout("nhwc", 7, 4, 8)


def test_windows_are_told_from_grids_and_put_back_in_place() -> None:
    from timm.models.nest import blockify

    grid = torch.rand(2, 8, 8, 5)
    layout = Layout.of(blockify(grid, 2), channels_last=True)
    assert layout == Layout("windows", 5, 8, 8, window=2)
    assert torch.equal(layout.to_map(blockify(grid, 2)), grid.permute(0, 3, 1, 2))


def test_tokens_beyond_the_square_are_prefix_tokens() -> None:
    assert Layout.of(torch.zeros(1, 66, 7)) == Layout("tokens", 7, 8, 8, 2)
    with pytest.raises(ValueError, match="no layout"):
        Layout.of(torch.zeros(1, 2, 3, 4, 5))
