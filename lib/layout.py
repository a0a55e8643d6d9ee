"""How a tensor that crosses a boundary is laid out, and the map form in which all layouts can be compared."""

from dataclasses import asdict, dataclass
from math import isqrt
from typing import Any, Literal

import torch

Kind = Literal["nchw", "nhwc", "tokens", "pooled"]


@dataclass(frozen=True)
class Layout:
    """Channels c on an h x w grid. `tokens` are [b, prefix + h w, c], the prefix tokens first; `pooled` is [b, c]."""

    kind: Kind
    channels: int
    height: int = 1
    width: int = 1
    prefix: int = 0

    @classmethod
    def of(cls, tensor: torch.Tensor, channels_last: bool = False) -> "Layout":
        """The layout of a batch; tokens beyond the largest square grid are prefix tokens.

        Raises ValueError for other ranks than 2, 3 and 4.
        """
        shape = tuple(tensor.shape)
        if len(shape) == 2:
            return cls("pooled", shape[1])
        if len(shape) == 3:
            side = isqrt(shape[1])
            return cls("tokens", shape[2], side, side, shape[1] - side * side)
        if len(shape) == 4 and channels_last:
            return cls("nhwc", shape[3], shape[1], shape[2])
        if len(shape) == 4:
            return cls("nchw", shape[1], shape[2], shape[3])
        raise ValueError(f"no layout for a tensor of shape {shape}")

    @property
    def shape(self) -> tuple[int, ...]:
        """Without the batch dimension."""
        return {
            "nchw": (self.channels, self.height, self.width),
            "nhwc": (self.height, self.width, self.channels),
            "tokens": (self.prefix + self.height * self.width, self.channels),
            "pooled": (self.channels,),
        }[self.kind]

    def to_map(self, x: torch.Tensor) -> torch.Tensor:
        """[b, c, h, w]; prefix tokens are left out."""
        if self.kind == "nchw":
            return x
        if self.kind == "nhwc":
            return x.permute(0, 3, 1, 2)
        if self.kind == "pooled":
            return x[:, :, None, None]
        return x[:, self.prefix :].transpose(1, 2).unflatten(2, (self.height, self.width))

    def from_map(self, x: torch.Tensor, prefix: torch.Tensor | None = None) -> torch.Tensor:
        """The inverse of `to_map`; `prefix` [b, prefix, c] where the layout has prefix tokens."""
        if self.kind == "nchw":
            return x
        if self.kind == "nhwc":
            return x.permute(0, 2, 3, 1)
        if self.kind == "pooled":
            return x.flatten(1)
        tokens = x.flatten(2).transpose(1, 2)
        return tokens if prefix is None else torch.cat([prefix, tokens], dim=1)

    def pool(self, x: torch.Tensor) -> torch.Tensor:
        """[b, c]: the mean over the grid; prefix tokens are left out."""
        if self.kind == "pooled":
            return x
        if self.kind == "tokens":
            return x[:, self.prefix :].mean(1)
        return x.mean((2, 3) if self.kind == "nchw" else (1, 2))

    def to_dict(self) -> dict[str, Any]:
        """For a recipe; `Layout(**d)` is the inverse."""
        return asdict(self)
