"""What a linear map sees: the rows whose products with a layer's weights are its outputs."""

from copy import deepcopy

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import nn


def patches(
    x: Float[torch.Tensor, "n C h w"], layer: nn.Conv2d, positions: Int64[torch.Tensor, " p"] | None = None
) -> Float[torch.Tensor, "rows features"]:
    """The patches [n * positions, C * kh * kw] of x [n, C, h, w] that `layer` makes its outputs from, image by image,
    with features in the order of its weight's.

    positions: int64, which of the output's, counted along its rows and ascending; all by default. A kind of convolution
    that pads in a way of its own is asked itself, with the unit matrix for weights.
    """
    if type(layer) is not nn.Conv2d:
        found = _asked(x, layer).flatten(2)
        found = found if positions is None else found[:, :, positions.to(x.device)]
        return found.transpose(1, 2).flatten(0, 1)
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    x = F.pad(x, layer._reversed_padding_repeated_twice, mode=mode)
    (height, width), (down, right), (far, wide) = layer.kernel_size, layer.stride, layer.dilation
    lines, columns = (
        (x.shape[2] - far * (height - 1) - 1) // down + 1,
        (x.shape[3] - wide * (width - 1) - 1) // right + 1,
    )
    positions = (torch.arange(lines * columns) if positions is None else positions).to(x.device)
    top, left = positions // columns * down, positions % columns * right
    lines_of = top[:, None, None] + far * torch.arange(height, device=x.device)[:, None]
    columns_of = left[:, None, None] + wide * torch.arange(width, device=x.device)
    pixels = x.permute(0, 2, 3, 1).flatten(1, 2)  # a pixel's channels lie together, and are copied together
    found = pixels[:, (lines_of * x.shape[3] + columns_of).flatten()]
    return found.unflatten(1, (len(positions), -1)).transpose(2, 3).flatten(2).flatten(0, 1)


def _asked(x: torch.Tensor, layer: nn.Conv2d) -> torch.Tensor:
    own, shape = deepcopy(layer), (x.shape[1], *layer.kernel_size)
    unit = torch.eye(shape[0] * shape[1] * shape[2], dtype=x.dtype, device=x.device)
    own.weight, own.bias, own.groups = nn.Parameter(unit.reshape(-1, *shape)), None, 1
    return own.forward(x)  # the layer may be watched, and so is its copy
