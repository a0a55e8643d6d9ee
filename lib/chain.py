"""A network as a chain of atomic nodes with one tensor crossing each boundary (DeRy, section 3.1)."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import fx, nn

from lib import graph
from lib.cost import Cost, count
from lib.errors import BrickyardError
from lib.layout import Layout

_BOXES = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
_POOLING = {"mean", "amax", "adaptive_avg_pool2d", "adaptive_max_pool2d"}
_MIXING = {"conv1d", "conv2d", "linear", "matmul", "bmm", "einsum", "scaled_dot_product_attention"}


@dataclass(frozen=True)
class Node:
    """An atomic node: its module path, what leaves it, and its cost for one image."""

    name: str
    output: Layout
    cost: Cost


class Chain:
    """Nodes 1..L of a network; `chain[i:j]` is the module of nodes i+1..j, `chain.head` the pooling and classifier.

    Running all nodes and the head one after another gives the network's own output, bit for bit in eval mode.
    Modules are shared with the network, not copied.
    """

    def __init__(self, name: str, model: nn.Module, example: torch.Tensor):
        """`example`: a preprocessed batch, [b, 3, h, w]. Raises BrickyardError when the network cannot be cut."""
        self.name, self._model = name, model.eval()
        self._graph = graph.trace(model, name)
        values = graph.run(model, self._graph, example)
        cuts = [cut for cut in graph.boundaries(self._graph) if isinstance(values[cut], torch.Tensor)]
        groups = _Grouping(model, self._graph, cuts, values).groups()
        if not groups:
            raise BrickyardError(f"{name}: cannot be cut: no place between input and head where one tensor is alive")
        self._ends = [cuts[0], *(end for _, end in groups)]
        self.input = Layout.of(example)
        self.nodes = tuple(
            Node(
                groups[i][0],
                Layout.of(values[self._ends[i + 1]], _channels_last(model, self._graph, self._ends[i + 1])),
                count(self[i : i + 1], values[self._ends[i]].shape[1:]),
            )
            for i in range(len(groups))
        )
        self.head_cost = count(self.head, values[self._ends[-1]].shape[1:])

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, span: slice) -> nn.Module:
        start, stop, step = span.indices(len(self))
        if step != 1 or stop <= start:
            raise IndexError(f"{self.name}: no nodes {start}:{stop}")
        return graph.extract(self._model, self._graph, self._ends[start], self._ends[stop])

    @cached_property
    def head(self) -> nn.Module:
        """From the last node's output to the logits."""
        output = next(node for node in self._graph.nodes if node.op == "output")
        return graph.extract(self._model, self._graph, self._ends[-1], output.args[0])

    def layout(self, boundary: int) -> Layout:
        """The tensor that enters node boundary + 1; 0 is the image, L what enters the head."""
        return self.nodes[boundary - 1].output if boundary else self.input

    def cost(self, start: int, stop: int) -> Cost:
        """The cost of `chain[start:stop]`."""
        return sum((node.cost for node in self.nodes[start:stop]), Cost())

    @cached_property
    def _parts(self) -> list[nn.Module]:
        return [self[i : i + 1] for i in range(len(self))]

    def walk(self, x: torch.Tensor) -> Iterator[torch.Tensor]:
        """Yields the outputs of nodes 1..L for one batch; use each before taking the next (a node may change it)."""
        for part in self._parts:
            x = part(x)
            yield x

    def to_dict(self) -> dict[str, Any]:
        """Names, layouts and costs of the nodes, for JSON."""
        nodes = [
            {"name": n.name, "params": n.cost.params, "macs": n.cost.macs, "output": n.output.to_dict()}
            for n in self.nodes
        ]
        head = {"params": self.head_cost.params, "macs": self.head_cost.macs}
        return {"model": self.name, "input": self.input.to_dict(), "nodes": nodes, "head": head}


class _Grouping:
    """Joins the segments between legal cuts into atomic nodes.

    A unit (residual or transformer block, downsampling layer) is one node; outside units a convolution or linear
    layer opens a node and what follows it (normalisation, activation, pooling) joins it. What stands directly below
    the root before the first unit inside a box, the stem, belongs to the first node. The head starts at the first
    global pooling or loss of the grid.
    """

    def __init__(self, model: nn.Module, traced: fx.Graph, cuts: list[fx.Node], values: dict[fx.Node, Any]):
        self.modules = dict(model.named_modules())
        self.values = values
        self.segments = [(cuts[i + 1], graph.between(traced, cuts[i], cuts[i + 1])) for i in range(len(cuts) - 1)]
        self.inner_cuts = [cut.meta["path"] for cut in cuts[1:]]
        self._boxes: dict[str, bool] = {}

    def groups(self) -> list[tuple[str, fx.Node]]:
        """(name, last operation) of every node."""
        body = self._body()
        groups: list[tuple[str, str | None, fx.Node]] = []
        for end, nodes in body:
            unit = self._unit(end)
            opens = any(self._mixes(node) for node in nodes)
            if groups and (unit == groups[-1][1] if unit else not opens):
                name, previous, _ = groups.pop()
                groups.append((name, previous, end))
            elif unit or opens:
                groups.append((unit or self._first_mixing(nodes), unit, end))
        nested = [unit is not None and "." in unit for _, unit, _ in groups]
        stem = nested.index(True) if True in nested else 0
        return [(name, end) for name, _, end in groups[stem:]]

    def _body(self) -> list[tuple[fx.Node, list[fx.Node]]]:
        for i, (end, _) in enumerate(self.segments):
            value = self.values[end]
            if value.ndim < 3 or self._pools(end):
                return self.segments[:i]
        return self.segments

    def _pools(self, node: fx.Node) -> bool:
        if node.op == "call_module":
            name = type(self.modules[str(node.target)]).__name__
            return "Adaptive" in name and "Pool" in name
        return _name(node) in _POOLING

    def _mixes(self, node: fx.Node) -> bool:
        if node.op == "call_module":
            return any(p.ndim > 1 for p in self.modules[str(node.target)].parameters())
        return _name(node) in _MIXING

    def _first_mixing(self, nodes: list[fx.Node]) -> str:
        return next(node.meta["path"] for node in nodes if self._mixes(node))

    def _unit(self, node: fx.Node) -> str | None:
        """The outermost module around an operation that is neither a box of units nor a single layer."""
        parts = node.meta["path"].split(".") if node.meta["path"] else []
        for depth in range(1, len(parts) + 1):
            prefix = ".".join(parts[:depth])
            if not self._is_box(prefix):
                layer = prefix == node.target or not list(self.modules[prefix].children())
                return None if layer else prefix
        return None

    def _is_box(self, path: str) -> bool:
        if path not in self._boxes:
            self._boxes[path] = self._looks_like_box(path)
        return self._boxes[path]

    def _looks_like_box(self, path: str) -> bool:
        """Sequences of units or of several layers, and modules that hold such sequences or repeat a cuttable unit."""
        module = self.modules[path]
        children = [(f"{path}.{name}", child) for name, child in module.named_children()]
        composite = [(p, child) for p, child in children if list(child.children())]
        if isinstance(module, _BOXES):
            layers = [child for _, child in children if any(q.ndim > 1 for q in child.parameters())]
            return bool(composite) or len(layers) > 1
        if any(isinstance(child, _BOXES) and self._is_box(p) and self._cut_inside(p) > 0 for p, child in composite):
            return True
        return any(
            self._cut_inside(p) > 0 and self._cut_inside(q) > 0
            for n, (p, a) in enumerate(composite)
            for q, b in composite[n + 1 :]
            if type(a) is type(b) and self._branches(p) and self._branches(q)
        )

    def _cut_inside(self, path: str) -> int:
        return sum(inner == path or inner.startswith(f"{path}.") for inner in self.inner_cuts)

    def _branches(self, path: str) -> bool:
        """Whether more than one tensor is alive somewhere inside: fewer cuts than operations."""
        operations = sum(
            node.meta["path"] == path or node.meta["path"].startswith(f"{path}.")
            for _, nodes in self.segments
            for node in nodes
        )
        return self._cut_inside(path) < operations


def _name(node: fx.Node) -> str:
    return node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")


def _channels_last(model: nn.Module, traced: fx.Graph, node: fx.Node) -> bool:
    """Whether a 4-D value is [b, h, w, c]: its neighbouring operations normalise or map the last dimension."""
    modules = dict(model.named_modules())
    for neighbour in [*node.users, node]:
        layer = modules.get(str(neighbour.target)) if neighbour.op == "call_module" else None
        if isinstance(layer, nn.Linear) or (isinstance(layer, nn.LayerNorm) and "2d" not in type(layer).__name__):
            return True
    return False
