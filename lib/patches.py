"""What a linear map sees: the rows whose products with a layer's weights are its outputs."""

import torch
import torch.nn.functional as F
from torch import nn


def patches(x: torch.Tensor, layer: nn.Conv2d, positions: torch.Tensor | None = None) -> torch.Tensor:
    """The patches [n * positions, C * kh * kw] of x [n, C, h, w] that `layer` makes its outputs from, image by image,
    with features in the order of its weight's.

    positions: int64, which of the output's, counted along its rows; all by default.
    """
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    x = F.pad(x, layer._reversed_padding_repeated_twice, mode=mode)
    (height, width), (down, right), (far, wide) = layer.kernel_size, layer.stride, layer.dilation
    if positions is None:
        return F.unfold(x, (height, width), (far, wide), 0, (down, right)).transpose(1, 2).flatten(0, 1)
    positions = positions.to(x.device)
    columns = (x.shape[3] - wide * (width - 1) - 1) // right + 1
    top, left = positions // columns * down, positions % columns * right
    rows = top[:, None, None] + far * torch.arange(height, device=x.device)[:, None]
    across = left[:, None, None] + wide * torch.arange(width, device=x.device)
    return x[:, :, rows, across].transpose(1, 2).flatten(2).flatten(0, 1)
