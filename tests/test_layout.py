"""Layouts: maps and back."""

import pytest
import torch

from lib.layout import Layout

CASES = [
    (Layout("nchw", 5, 2, 3), (4, 5, 2, 3)),
    (Layout("nhwc", 5, 2, 3), (4, 2, 3, 5)),
    (Layout("tokens", 5, 3, 3, 2), (4, 11, 5)),
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


def test_tokens_beyond_the_square_are_prefix_tokens() -> None:
    assert Layout.of(torch.zeros(1, 66, 7)) == Layout("tokens", 7, 8, 8, 2)
    with pytest.raises(ValueError, match="no layout"):
        Layout.of(torch.zeros(1, 2, 3, 4, 5))
