"""The channels of a network: which stand and fall together, and what follows when one is taken out."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch


@dataclass(frozen=True)
class Layer:
    """A convolution or linear layer on the way from the images to the logits.

    name: its module path.
    inputs, outputs: the channel of each of its input and output channels, where the `positions` features that a
        flattened map has of a channel, or a head of an attention, count once. A head is one channel: so are all rows
        of its queries, keys and values.
    norm: the BatchNorm that directly follows.
    macs: for one image.
    alone: whether it runs once in a pass, nobody shares its weight, and no hook changes what it gives.
    """

    name: str
    kind: Literal["conv", "linear"]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    positions: int = 1
    groups: int = 1
    norm: str | None = None
    macs: int = 0
    alone: bool = True


@dataclass(frozen=True)
class Size:
    """A number, written in operation `node` of the graph at `args[at[0]][at[1]]...`, that counts these channels.

    A name among `at` is that of a keyword, of a slice's start or of its stop. others: how many more it counts.
    """

    node: str
    at: tuple[int | str, ...]
    channels: tuple[int, ...]
    others: int = 0


@dataclass(frozen=True)
class Work:
    """MACs for one image that are computed outside of layers (attention); they go with `channels`, if there are any."""

    macs: int
    channels: tuple[int, ...] = ()


@dataclass(frozen=True)
class Coupling:
    """The channels 0 .. count - 1 of a network, and everything that has to follow when one is taken out.

    fixed: channels that cannot be (those of the image, single ones that are broadcast, those that a norm, or an
        operation that is not known, takes together).
    layers: from the image to the logits, the classifier last.
    axes: path of a weight or buffer -> for each of its axes the channel of every row, None where rows are no channels.
    asked: the same where the network asks a tensor for the number, and may get another once it is cut.
    works: what is computed outside of layers.
    unused: modules and weights, by path, that the logits do not depend on.
    memory_format: in which images may be given.
    """

    count: int
    fixed: frozenset[int]
    layers: tuple[Layer, ...]
    axes: Mapping[str, tuple[tuple[int, ...] | None, ...]]
    sizes: tuple[Size, ...] = ()
    asked: tuple[Size, ...] = ()
    works: tuple[Work, ...] = ()
    unused: frozenset[str] = frozenset()
    memory_format: torch.memory_format = torch.contiguous_format

    @property
    def classifier(self) -> Layer:
        """The layer whose outputs are the logits."""
        return self.layers[-1]

    @cached_property
    def streams(self) -> tuple[tuple[int, ...], ...]:
        """Channels by the layers that make them: those of a plain layer, or of all layers that a residual stream adds
        up; in order of first appearance, those that no layer makes left out.
        """
        makers: dict[int, list[str]] = {}
        for layer in self.layers:
            for channel in dict.fromkeys(layer.outputs):
                makers.setdefault(channel, []).append(layer.name)
        streams: dict[tuple[str, ...], list[int]] = {}
        for channel, names in makers.items():
            streams.setdefault(tuple(names), []).append(channel)
        return tuple(map(tuple, streams.values()))
