"""A traced network, run one operation at a time, so that its weights may change on the way."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import fx

from lib.graph import Trace


class Replay(fx.Interpreter):
    """A traced network that runs one operation at a time on all images."""

    def __init__(self, found: Trace, images: torch.Tensor):
        super().__init__(found.model, graph=found.graph)
        self.env: dict[fx.Node, Any] = {found.input: images}
        self._constants = found.constants

    def step(self, node: fx.Node) -> Any:
        """What `node` gives; it stays in `env`, as does what it needs for that."""
        if node not in self.env:
            for source in node.all_input_nodes:
                self.step(source)
            self.env[node] = self.run_node(node)
        return self.env[node]

    def follow(self, start: fx.Node, z: torch.Tensor, way: Sequence[fx.Node], images: slice) -> dict[fx.Node, Any]:
        """What every operation of `way` gives for some images if `start` gives z; `env` stays as it is."""
        kept = self.env
        given = {source for one in way for source in one.all_input_nodes} - {start, *way}
        self.env = {start: z.clone(), **{source: kept[source][images] for source in given}}  # way may begin in place
        try:
            for one in way:
                self.env[one] = self.run_node(one)
            return self.env
        finally:
            self.env = kept

    def call_method(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """`view` as `reshape`: channels may lie last in memory."""
        return super().call_method("reshape" if target == "view" else target, args, kwargs)

    def fetch_attr(self, target: str) -> Any:
        """Weights, and the constants of the trace."""
        constant = self._constants.get(target)
        return super().fetch_attr(target) if constant is None else constant
