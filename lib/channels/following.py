"""Channels followed through a traced graph: labels on the second dimension of every value, joined as they meet."""

from collections.abc import Sequence
from typing import NoReturn

import torch
from torch import fx

from ..base.errors import BrickyardError
from ..trace.graph import Trace


class Following:
    """What is known so far. labels: of the channels of every value that has been followed; fixed: those that must stay;
    pieces: of values that are divided; grids: labels of values whose channels lie along two dimensions, row by row;
    sizes: numbers of channels that are written into operations, as in `lib.channels.channels.Size`.
    """

    def __init__(self, found: Trace, name: str):
        self.found, self.name = found, name
        self.modules = dict(found.model.named_modules())
        self.parents: list[int] = []
        self.labels: dict[fx.Node, list[int]] = {found.input: self.new(found.tensor(found.input).shape[1])}
        self.fixed = list(self.labels[found.input])
        self.pieces: dict[fx.Node, list[list[int]]] = {}
        self.grids: dict[fx.Node, list[list[int]]] = {}
        self.sizes: list[tuple[str, tuple[int | str, ...], list[int]]] = []

    def new(self, count: int) -> list[int]:
        """Labels that are not yet joined with any."""
        self.parents += range(len(self.parents), len(self.parents) + count)
        return list(range(len(self.parents) - count, len(self.parents)))

    def root(self, label: int) -> int:
        """The label that stands for all that are joined with this one."""
        while self.parents[label] != label:
            self.parents[label] = self.parents[self.parents[label]]
            label = self.parents[label]
        return label

    def roots(self, labels: Sequence[int]) -> set[int]:
        """The roots of several labels."""
        return {self.root(label) for label in labels}

    def join(self, a: Sequence[int], b: Sequence[int]) -> None:
        """Channels at the same place are one."""
        for one, other in zip(a, b, strict=True):
            one, other = self.root(one), self.root(other)
            self.parents[max(one, other)] = min(one, other)

    def parameter(self, path: str) -> torch.Tensor:
        """A weight or buffer of the network."""
        owner, _, last = path.rpartition(".")
        return getattr(self.modules[owner], last)

    def shape(self, node: fx.Node) -> tuple[int, ...]:
        """The shape of what an operation gives for the smaller batch."""
        return tuple(self.found.tensor(node).shape)

    def sources(self, node: fx.Node) -> list[fx.Node]:
        """What an operation is given that depends on the pixels."""
        return [source for source in node.all_input_nodes if source in self.labels]

    def source(self, node: fx.Node) -> fx.Node:
        """The only one of these; refuses an operation with several, or none."""
        sources = self.sources(node)
        if len(sources) != 1:
            self.refuse(node, "several tensors meet in it" if sources else "its input cannot be followed")
        return sources[0]

    def refuse(self, node: fx.Node, reason: str) -> NoReturn:
        """Raises BrickyardError naming the network, the module and the operation."""
        module = self.modules.get(str(node.target)) if node.op == "call_module" else None
        named = getattr(node.target, "__name__", str(node.target))
        what = named if module is None else type(module).__name__
        raise BrickyardError(
            f"{self.name}: cannot be taken apart at {node.meta.get('path') or 'its top level'} ({what.strip('_')}): "
            f"{reason}; only CNNs can whose channels stay apart between convolutions and linear layers"
        )
