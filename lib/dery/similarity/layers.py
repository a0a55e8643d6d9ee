"""Activation matrices as an index sees them: networks, pairs of networks, centred columns."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import inf

import torch
from jaxtyping import Float, Float32, Float64

from ...base.errors import BrickyardError
from ...fit.exact import CPU, home
from ..activations import Activations

Pair = tuple[int, int]  # of networks, by position
Tile = tuple[Pair, Float64[torch.Tensor, "L M"]]  # a pair and what belongs to their layers


@dataclass(frozen=True)
class Network:
    """layers: for each of its `nodes` a matrix [n, d_i], rows the same images in all networks; checksum: of them all.

    spreads: for each layer the mean squared distance of an image from the mean image, where `layers` hold a part of the
    images only; else None, it is that of `layers`.
    device: where products are taken, with float64; `layers` are on the CPU.
    """

    name: str
    checksum: str
    nodes: tuple[str, ...]
    layers: tuple[Float[torch.Tensor, "n _"], ...]
    spreads: tuple[float, ...] | None = None
    device: torch.device = CPU

    @classmethod
    def of(cls, found: Activations, device: torch.device = CPU) -> "Network":
        """A network's stored activations, to be compared on `device`, or on the CPU where that has no float64."""
        nodes = tuple(node["name"] for node in found.nodes)
        return cls(found.model, found.checksum, nodes, tuple(found.layers), device=home(device))

    @property
    def images(self) -> int:
        """The number of images, n."""
        return len(self.layers[0])

    @property
    def widths(self) -> tuple[int, ...]:
        """The number of columns of each layer, d_i."""
        return tuple(layer.shape[1] for layer in self.layers)

    def rows(self, part: slice) -> "Network":
        """The same network on some of the images, its layers scaled as on all of them."""
        assert self.spreads is not None
        return replace(self, layers=tuple(layer[part] for layer in self.layers))

    def spread(self, layer: int, own: float) -> float:
        """What a layer's Gram matrix is divided by; `own`: that of the images at hand.

        Raises BrickyardError when squares leave the range of float32.
        """
        found = own if self.spreads is None else self.spreads[layer]
        if not 0 < found < inf:
            raise BrickyardError(
                f"activations of node {self.nodes[layer]} of {self.name} are too large or too small for their squares "
                "in float32 (1e-38 to 1e38); leave it out"
            )
        return found


def centred(x: Float[torch.Tensor, "n d"]) -> Float32[torch.Tensor, "n d"]:
    """float32 [n, d], column means 0, also where means are large beside deviations: they are taken off twice."""
    y = x.float()
    y = y - y.mean(0)
    return y.sub_(y.mean(0))


def is_constant(x: Float[torch.Tensor, "n d"]) -> bool:
    """Whether all images give exactly the same."""
    return all(torch.equal(part[:1].expand_as(part), part) for part in (x[:2], x))


def spread(x: Float[torch.Tensor, "n d"]) -> float:
    """Mean squared distance of a row from the mean row, some rows at a time; 0 for a constant layer."""
    if is_constant(x):
        return 0.0
    parts = x.split(1024)
    mean = torch.stack([part.sum(0, dtype=torch.float64) for part in parts]).sum(0) / len(x)
    return sum(float((part.double() - mean).square().sum()) for part in parts) / len(x)


def minibatches(n: int, size: int) -> Iterator[slice]:
    """0..n in as few parts of at most `size` as possible, their lengths equal up to one."""
    count = -(-n // size)
    ends = [n * i // count for i in range(count + 1)]
    return (slice(a, b) for a, b in zip(ends, ends[1:], strict=False))
