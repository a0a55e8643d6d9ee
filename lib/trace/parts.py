"""Parts of a traced network as graphs of their own: from one operation to another, or all that the logits depend on."""

from typing import Any

import torch
from torch import fx
from torch.fx.node import map_aggregate

from .cost import BATCHES
from .graph import Trace, behind
from .tracer import tensors


def between(found: Trace, start: fx.Node, end: fx.Node) -> list[fx.Node]:
    """The operations that make the content `end` from `start`, in order, `start` left out."""
    needed: set[fx.Node] = set()
    stack = [end]
    while stack:
        node = stack.pop()
        if node is not start and node not in needed:
            needed.add(node)
            stack.extend(source for source in node.all_input_nodes if not _is_size(found, source))
    return [node for node in found.graph.nodes if node in needed]


def part(found: Trace, start: fx.Node, end: fx.Node) -> fx.Graph:
    """The operations that compute `end` from `start`, as a graph of their own.

    Sizes are written as constants or multiples of the batch: a part belongs to the image size that was traced. What
    enters a part is left as it is: where an operation would change it in place, that is done to a copy.
    """
    graph = fx.Graph()
    x = graph.placeholder("x")
    inside = between(found, start, end)
    copied = any(start in found.changes.get(node, ()) for node in inside)
    copies: dict[fx.Node, Any] = {start: graph.call_method("clone", (x,)) if copied else x}
    for node in inside:
        for source in node.all_input_nodes:
            if source not in copies:
                copies[source] = _written(graph, x, found.values[source])
        copies[node] = _copy(graph, x, node, copies)
    graph.output(copies[end])
    return graph


def needed(found: Trace) -> list[fx.Node]:
    """The operations that the logits depend on, in order."""
    those = behind(found.output, found.input)
    return [node for node in found.graph.nodes if node in those]


def whole(found: Trace) -> fx.Graph:
    """The operations that the logits depend on, as a graph of their own that gives them, for any image size."""
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    for node in needed(found):
        copies[node] = graph.node_copy(node, copies.__getitem__)
    graph.output(copies[found.output])
    return graph


def _copy(graph: fx.Graph, x: fx.Node, node: fx.Node, copies: dict[fx.Node, Any]) -> fx.Node:
    """`node` in another graph, its inputs replaced by nodes or plain values, devices by that of the part's input."""

    def replaced(value: Any) -> Any:
        if isinstance(value, fx.Node):
            return copies[value]
        return _written(graph, x, (value, value)) if isinstance(value, torch.device) else value

    arguments, keywords = map_aggregate((node.args, node.kwargs), replaced)
    return graph.create_node(node.op, node.target, arguments, keywords, node.name)


def _is_size(found: Trace, node: fx.Node) -> bool:
    """Whether an operation gives no tensor but something that is read off one."""
    return node.op != "get_attr" and not tensors(found.values[node][0])


def _written(graph: fx.Graph, x: fx.Node, values: tuple[Any, Any]) -> Any:
    """A size as an expression of the part's own input: a constant, or a multiple of the batch plus a constant."""
    first, second = values
    if isinstance(first, (tuple, list)):
        return tuple(_written(graph, x, pair) for pair in zip(first, second, strict=True))
    if isinstance(first, torch.device):
        return graph.call_function(getattr, (x, "device"))
    if isinstance(first, torch.dtype):
        return graph.call_function(getattr, (x, "dtype"))
    if isinstance(first, bool) or not isinstance(first, int) or first == second:
        return first
    step = second - first
    batch: Any = graph.call_method("size", (x, 0))
    product = batch if step == 1 else graph.call_function(_times, (batch, step))
    rest = first - step * BATCHES[0]
    return product if rest == 0 else graph.call_function(_plus, (product, rest))


def _times(a: int, b: int) -> int:
    return a * b


def _plus(a: int, b: int) -> int:
    return a + b
