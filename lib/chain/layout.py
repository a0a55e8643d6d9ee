"""How a tensor that crosses a boundary is laid out, and the map form in which all layouts can be compared."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import gcd, isqrt, log
from typing import Any, Literal

import torch
from torch import fx, nn

from ..trace.graph import Trace

Kind = Literal["nchw", "nhwc", "tokens", "windows", "pooled"]


@dataclass(frozen=True)
class Layout:
    """Channels c on an h x w grid.

    `tokens` are [b, prefix + h w, c], the prefix tokens first; `windows` are [b, (h w) / window^2, window^2, c], square
    windows row by row and in each its positions row by row; `pooled` is [b, c].
    """

    kind: Kind
    channels: int
    height: int = 1
    width: int = 1
    prefix: int = 0
    window: int = 1

    @classmethod
    def of(
        cls,
        tensor: torch.Tensor,
        channels_last: bool = False,
        prefix: int | None = None,
        image: tuple[int, int] = (1, 1),
    ) -> "Layout":
        """The layout of a batch that images of height and width `image` have become.

        Tokens: `prefix` of them precede the grid if the rest is a grid of the image's proportions; else those beyond
        the largest such grid do. Raises ValueError for other ranks than 2, 3 and 4.
        """
        shape = tuple(tensor.shape)
        if len(shape) == 2:
            return cls("pooled", shape[1])
        if len(shape) == 3:
            prefix = _prefix(shape[1], prefix, image)
            return cls("tokens", shape[2], *_grid(shape[1] - prefix, image), prefix)
        if len(shape) == 4 and channels_last and _is_windows(shape[1], shape[2], image):
            (height, width), window = _grid(shape[1], image), isqrt(shape[2])
            return cls("windows", shape[3], height * window, width * window, window=window)
        if len(shape) == 4 and channels_last:
            return cls("nhwc", shape[3], shape[1], shape[2])
        if len(shape) == 4:
            return cls("nchw", shape[1], shape[2], shape[3])
        raise ValueError(f"no layout for a tensor of shape {shape}")

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of an activation, without the batch dimension."""
        positions, inside = self.height * self.width, self.window**2
        return {
            "nchw": (self.channels, self.height, self.width),
            "nhwc": (self.height, self.width, self.channels),
            "tokens": (self.prefix + positions, self.channels),
            "windows": (positions // inside, inside, self.channels),
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
        if self.kind == "windows":
            windows = x.unflatten(2, (self.window, self.window)).unflatten(1, (-1, self.width // self.window))
            return windows.permute(0, 5, 1, 3, 2, 4).flatten(4).flatten(2, 3)
        return x[:, self.prefix :].transpose(1, 2).unflatten(2, (self.height, self.width))

    def from_map(self, x: torch.Tensor, prefix: torch.Tensor | None = None) -> torch.Tensor:
        """The inverse of `to_map`; `prefix` [b, prefix, c] where the layout has prefix tokens."""
        if self.kind == "nchw":
            return x
        if self.kind == "nhwc":
            return x.permute(0, 2, 3, 1)
        if self.kind == "pooled":
            return x.flatten(1)
        if self.kind == "windows":
            split = x.unflatten(3, (-1, self.window)).unflatten(2, (-1, self.window))
            return split.permute(0, 2, 4, 3, 5, 1).flatten(3, 4).flatten(1, 2)
        tokens = x.flatten(2).transpose(1, 2)
        return tokens if prefix is None else torch.cat([prefix, tokens], dim=1)

    def pool(self, x: torch.Tensor) -> torch.Tensor:
        """[b, c]: the mean over the grid; prefix tokens are left out.

        Runs at the speed of memory: products with a vector of ones and adaptive pooling were measured to take as long.
        """
        if self.kind == "pooled":
            return x
        if self.kind == "tokens":
            return x[:, self.prefix :].mean(1)
        return x.mean((2, 3) if self.kind == "nchw" else (1, 2))

    def to_dict(self) -> dict[str, Any]:
        """The layout as a recipe holds it; `Layout(**d)` is the inverse."""
        return asdict(self)


def layouts(found: Trace, ends: Sequence[fx.Node]) -> list[Layout]:
    """The layouts of some values of a traced network."""
    declared = getattr(found.model, "num_prefix_tokens", None)
    last = _takes_channels_last(found, ends)
    height, width = found.tensor(found.input).shape[2:]
    return [Layout.of(found.tensor(end), end in last, declared, (height, width)) for end in ends]


def _grid(positions: int, image: tuple[int, int]) -> tuple[int, int]:
    """The h x w with h w = positions whose proportions are closest to the image's."""
    sides = [(h, positions // h) for h in range(1, positions + 1) if positions % h == 0]
    return min(sides, key=lambda side: abs(log(side[0] / side[1]) - log(image[0] / image[1])))


def _is_proportional(grid: tuple[int, int], image: tuple[int, int]) -> bool:
    return grid[0] * image[1] == grid[1] * image[0]


def _prefix(tokens: int, declared: Any, image: tuple[int, int]) -> int:
    """How many tokens precede the grid."""
    known = declared if isinstance(declared, int) and declared < tokens else 0
    for prefix in (known, 0):
        if _is_proportional(_grid(tokens - prefix, image), image):
            return prefix
    smallest = image[0] * image[1] // gcd(*image) ** 2
    side = isqrt(tokens // smallest)
    return tokens - smallest * side**2 if side else known


def _is_windows(outer: int, inner: int, image: tuple[int, int]) -> bool:
    """Whether [outer, inner] cannot be rows and columns of a grid but can be square windows and positions in them."""
    square = isqrt(inner) ** 2 == inner
    return square and not _is_proportional((outer, inner), image) and _is_proportional(_grid(outer, image), image)


def _takes_channels_last(found: Trace, ends: Sequence[fx.Node]) -> set[fx.Node]:
    """Those 4-D values that are [b, h, w, c].

    The layers nearest to a value tell: the first layer behind it that has a width of its own, else the last one
    before it, works on the second dimension (convolutions, BatchNorm) or on the last (linear, LayerNorm).
    """
    votes: dict[fx.Node, bool] = {}
    order = [node for node in found.graph.nodes if node in found.content]
    hints = [_hint(found, node) for node in order]
    for end in ends:
        shape = found.tensor(end).shape
        if len(shape) != 4:
            continue
        at = order.index(end)
        nearest = [*hints[at + 1 :], *hints[at::-1]]
        known = (v for v in nearest if v is not None and shape[-1 if v[0] else 1] == v[1])
        votes[end] = next(known, (False, 0))[0]
    return {end for end, last in votes.items() if last}


def _hint(found: Trace, node: fx.Node) -> tuple[bool, int] | None:
    """(whether the last dimension holds the channels, how many) by the first layer inside an operation."""
    if node.op != "call_module":
        if node.op == "call_function" and getattr(node.target, "__name__", "") in ("layer_norm", "linear"):
            return True, found.tensor(node).shape[-1]
        return None
    for layer in found.model.get_submodule(str(node.target)).modules():
        if isinstance(layer, nn.Conv2d):
            return False, layer.in_channels
        if isinstance(layer, nn.BatchNorm2d | nn.GroupNorm):
            return False, getattr(layer, "num_features", getattr(layer, "num_channels", 0))
        if isinstance(layer, nn.LayerNorm):
            return "2d" not in type(layer).__name__, layer.normalized_shape[-1]
        if isinstance(layer, nn.Linear):
            return True, layer.in_features
    return None
