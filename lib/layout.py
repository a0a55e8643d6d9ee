"""How a tensor that crosses a boundary is laid out, and the map form in which all layouts can be compared."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import isqrt
from typing import Any, Literal

import torch
from torch import fx, nn

from lib.graph import Trace

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
    def of(cls, tensor: torch.Tensor, channels_last: bool = False, prefix: int | None = None) -> "Layout":
        """The layout of a batch. Tokens: `prefix` of them precede the grid; None: those beyond the largest square.

        Raises ValueError for other ranks than 2, 3 and 4.
        """
        shape = tuple(tensor.shape)
        if len(shape) == 2:
            return cls("pooled", shape[1])
        if len(shape) == 3:
            prefix = shape[1] - isqrt(shape[1]) ** 2 if prefix is None else prefix
            height, width = _grid(shape[1] - prefix)
            return cls("tokens", shape[2], height, width, prefix)
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


def layouts(found: Trace, ends: Sequence[fx.Node]) -> list[Layout]:
    """The layouts of some values of a traced network."""
    declared = getattr(found.model, "num_prefix_tokens", None)
    last = _takes_channels_last(found, ends)
    result = []
    for end in ends:
        tensor = found.tensor(end)
        known = isinstance(declared, int) and tensor.ndim == 3 and _is_square(tensor.shape[1] - declared)
        result.append(Layout.of(tensor, end in last, declared if known else None))
    return result


def _grid(tokens: int) -> tuple[int, int]:
    """The most square h x w with h w = tokens."""
    height = next(h for h in range(isqrt(tokens), 0, -1) if tokens % h == 0)
    return height, tokens // height


def _is_square(tokens: int) -> bool:
    return tokens > 0 and isqrt(tokens) ** 2 == tokens


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
