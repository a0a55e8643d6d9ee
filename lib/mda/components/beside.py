"""A source and its component side by side: every operation of one has its twin in the other."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import fx, nn

from ...base.errors import BrickyardError
from ...channels.channels import Layer
from ...channels.coupling import couple
from ...channels.cutting import Kept, channels
from ...channels.operations import Operation
from ...trace import graph, parts
from ...trace.replay import Replay
from .readers import Reading, reading


class Beside:
    """Both networks, run operation by operation on the same images, so that the component may change on the way.

    pairs: operations of the source on pixels, in order, with their twins; count: how many images; before, after: what
    source and component have made so far; modules, new: their modules by path; layers: the source's, by name. Raises
    BrickyardError where the component was not cut from such a source.
    """

    def __init__(self, source: nn.Module, component: nn.Module, kept: Kept, images: torch.Tensor):
        shape = tuple(images.shape[1:])
        before, after = (graph.trace(model, "the source", shape, costs=False) for model in (source, component))
        self.format, self.device, self.count = before.memory_format, images.device, len(images)
        images = images.clone(memory_format=self.format)
        needed = [[node for node in parts.needed(found) if node in found.content] for found in (before, after)]
        self.pairs = list(zip(*needed, strict=False))
        same = len(needed[0]) == len(needed[1])
        if not same or any(a.op != b.op for a, b in self.pairs):
            raise BrickyardError("the component and its source are not of one architecture; dvc repro components")
        self.found, self.coupling = before, couple(before, "the source")
        self._component = after
        self.layers = {layer.name: layer for layer in self.coupling.layers}
        self.before, self.after = Replay(before, images), Replay(after, images)
        self.modules, self.new = dict[str, Any](source.named_modules()), dict[str, Any](component.named_modules())
        self.twin = dict(self.pairs)
        self._twins = {*self.twin.values()}
        self.place = {node: i for i, (node, _) in enumerate(self.pairs)}
        self._chosen = channels(self.coupling, kept)
        self._last_use = {read: node for node, _ in self.pairs for read in node.all_input_nodes}

    def layer(self, node: fx.Node) -> Layer | None:
        """The layer that an operation of the source is, if it is one."""
        return self.layers.get(Operation(node, self.modules).name)

    def given(self, node: fx.Node) -> torch.Tensor:
        """What the component gives the twin of an operation."""
        return self.after.env[self.twin[node.all_input_nodes[0]]]

    def given_for(self, node: fx.Node, images: torch.Tensor) -> torch.Tensor:
        """What a node is given for other images, as the component is now."""
        return next(Replay(self._component, images).at([self.twin[node.all_input_nodes[0]]]))

    def has_images_first(self, node: fx.Node) -> bool:
        """Whether what an operation of the source gives has a row an image."""
        return self.found.tensor(node).shape[:1] == self.found.tensor(self.found.input).shape[:1]

    def positions(self, row: Sequence[int]) -> list[int]:
        """Which of some channels the component has."""
        return [i for i, channel in enumerate(row) if channel in self._chosen]

    def met(self, user: fx.Node, node: fx.Node) -> fx.Node | None:
        """The other of two tensors of one shape that meet in `user`, if both networks have made it."""
        others = [read for read in user.all_input_nodes if read is not node]
        there = len(others) == 1 and others[0] in self.before.env and self._is_there(others[0])
        return others[0] if there and self.found.tensor(others[0]).shape == self.found.tensor(node).shape else None

    def reading(self, node: fx.Node) -> Reading | None:
        """Who reads what a layer makes; None as long as what it is put together with is not there."""
        return reading(
            node,
            [later for later, _ in self.pairs[self.place[node] + 1 :]],
            is_layer=lambda one: self.layer(one) is not None,
            there=self._is_there,
        )

    def _is_there(self, one: fx.Node) -> bool:
        """Whether the component has made the twin of an operation on pixels."""
        return one in self.twin and self.twin[one] in self.after.env

    def forget(self, node: fx.Node) -> None:
        """Drops what no operation on pixels behind `node` reads, once all sizes have been read off what it makes."""
        for run, one in ((self.before, node), (self.after, self.twin[node])):
            asked = [one]
            while asked:
                for user in asked.pop().users:
                    sized = user.op in ("call_function", "call_method") and all(
                        x in run.env for x in user.all_input_nodes
                    )
                    if sized and user not in self.twin and user not in self._twins and user not in run.env:
                        run.step(user)
                        asked.append(user)
        for read in {*node.all_input_nodes}:
            if self._last_use[read] is node and read in self.twin:
                del self.before.env[read], self.after.env[self.twin[read]]
