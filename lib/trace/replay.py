"""A traced network, run one operation at a time, so that its weights may change on the way."""

from collections.abc import Collection, Iterator, Sequence
from typing import Any

import torch
from torch import fx
from torch.fx.node import map_arg

from .effects import after
from .graph import Trace


class Replay(fx.Interpreter):
    """A traced network that runs one operation at a time on all images.

    What an operation changes in place is copied first: what is in `env` stays what it is, but for a tensor that is
    changed through a view of it.
    """

    def __init__(self, found: Trace, images: torch.Tensor):
        super().__init__(found.model, graph=found.graph)
        self.env: dict[fx.Node, Any] = {found.input: images}
        self._found = found

    def step(self, node: fx.Node) -> Any:
        """What `node` gives; it stays in `env`, as does what it needs for that."""
        if node not in self.env:
            for source in node.all_input_nodes:
                self.step(source)
            self.env[node] = self.run_node(node)
        return self.env[node]

    def at(self, ends: Collection[fx.Node]) -> Iterator[Any]:
        """What each of `ends` gives, in the order of the network; what nothing behind reads is forgotten."""
        last_use = {source: node for node in self._found.graph.nodes for source in node.all_input_nodes}
        for node in self._found.graph.nodes:
            if node.op == "output":
                return
            if node not in self.env:
                self.env[node] = self.run_node(node)
            if node in ends:
                yield self.env[node]
            for one in (node, *node.all_input_nodes):
                if last_use.get(one, node) is node:
                    self.env.pop(one, None)

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

    def fetch_args_kwargs_from_env(self, n: fx.Node) -> Any:
        """Copies of what `n` changes, unless others see the change through another view."""
        changed = self._found.changes.get(n, frozenset())
        if not changed or any(user.target is after for user in n.users):
            return super().fetch_args_kwargs_from_env(n)
        fetched = {one: self.env[one].clone() if one in changed else self.env[one] for one in n.all_input_nodes}
        return map_arg((n.args, n.kwargs), fetched.__getitem__)

    def call_method(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """`view` as `reshape`: channels may lie last in memory. Gradients pass where the network holds them."""
        if target == "detach":
            return args[0]
        return super().call_method("reshape" if target == "view" else target, args, kwargs)

    def fetch_attr(self, target: str) -> Any:
        """Weights, and the constants of the trace."""
        constant = self._found.constants.get(target)
        return super().fetch_attr(target) if constant is None else constant
