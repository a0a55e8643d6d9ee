"""How a network is traced: its operations as a torch.fx graph, the places where one tensor is alive, and sub-graphs."""

import inspect
import sys
from typing import Any

import torch
from torch import fx, nn

from lib.errors import BrickyardError


class _Tracer(fx.Tracer):
    """torch.fx's tracer with timm's leaf modules and functions, if timm is loaded."""

    def __init__(self) -> None:
        leaves, functions = _timm_leaves()
        super().__init__(autowrap_functions=functions)
        self._leaves = leaves

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, self._leaves) or super().is_leaf_module(m, module_qualified_name)


def _timm_leaves() -> tuple[tuple[type[nn.Module], ...], tuple[Any, ...]]:
    if "timm" not in sys.modules:
        return (), ()
    from timm.layers import get_notrace_functions, get_notrace_modules

    return tuple(get_notrace_modules()), tuple(get_notrace_functions())


def trace(model: nn.Module, name: str) -> fx.Graph:
    """The operations of `model` in eval mode, in order; `node.meta["path"]` is the module an operation belongs to.

    Raises BrickyardError naming the model when torch.fx cannot trace it (data-dependent control flow).
    """
    training = model.training
    try:
        graph = _Tracer().trace(model.eval(), concrete_args=_defaults(model))
    except Exception as error:  # whatever a model's own forward raises on a proxy
        reason = str(error).strip().split("\n")[0]
        raise BrickyardError(f"{name}: cannot be traced ({type(error).__name__}: {reason})") from error
    finally:
        model.train(training)
    inputs = [node for node in graph.nodes if node.op == "placeholder"]
    if len(inputs) - len(_defaults(model)) != 1:
        raise BrickyardError(f"{name}: takes {len(inputs)} inputs; a network must take one batch of images")
    for node in inputs[1:]:  # fixed at their defaults; only checks of that are left
        _erase(graph, node)
    for node in graph.nodes:
        stack = node.meta.get("nn_module_stack") or {"": ("", None)}
        node.meta["path"] = node.target if node.op == "call_module" else list(stack.values())[-1][0]
    return graph


def _erase(graph: fx.Graph, node: fx.Node) -> None:
    for user in list(node.users):
        _erase(graph, user)
    graph.erase_node(node)


def _defaults(model: nn.Module) -> dict[str, Any]:
    """The optional arguments of `model.forward`."""
    parameters = inspect.signature(model.forward).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not p.empty}


def run(model: nn.Module, graph: fx.Graph, x: torch.Tensor) -> dict[fx.Node, Any]:
    """Runs every operation on `x` and returns each one's value, tensors as `meta` tensors (shape and type only)."""
    values: dict[fx.Node, Any] = {}

    class Recorder(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            value = super().run_node(n)
            values[n] = value.to("meta") if isinstance(value, torch.Tensor) else value
            return value

    with torch.no_grad():
        Recorder(model, graph=graph).run(x)
    return values


def boundaries(graph: fx.Graph) -> list[fx.Node]:
    """The values that are, at some place in the order, the only live one that depends on the input; the input first.

    A value lives from its operation to its last use; values that do not depend on the input are made anew on each
    side of a cut. The output is left out.
    """
    order = {node: position for position, node in enumerate(graph.nodes)}
    dependent: set[fx.Node] = set()
    last_use: dict[fx.Node, int] = {}
    for node in graph.nodes:
        if node.op == "placeholder" or any(source in dependent for source in node.all_input_nodes):
            dependent.add(node)
            last_use[node] = max((order[user] for user in node.users), default=order[node])
    found: list[fx.Node] = []
    alive: set[fx.Node] = set()
    for node in graph.nodes:
        if node.op == "output":
            break
        if node in dependent:
            alive.add(node)
        alive = {value for value in alive if last_use[value] > order[node]}
        if len(alive) == 1 and (only := next(iter(alive))) not in found:
            found.append(only)
    return found


def between(graph: fx.Graph, start: fx.Node, end: fx.Node) -> list[fx.Node]:
    """The operations that compute `end` from `start`, in order, `start` left out."""
    needed: set[fx.Node] = set()
    stack = [end]
    while stack:
        node = stack.pop()
        if node is not start and node not in needed:
            needed.add(node)
            stack.extend(node.all_input_nodes)
    return [node for node in graph.nodes if node in needed]


def extract(model: nn.Module, graph: fx.Graph, start: fx.Node, end: fx.Node) -> fx.GraphModule:
    """The part of `model` that computes `end` from `start`, with the source's own modules and parameter names."""
    part = fx.Graph()
    copies = {start: part.placeholder("x")}
    for node in between(graph, start, end):
        copies[node] = part.node_copy(node, lambda source: copies[source])
    part.output(copies[end])
    return fx.GraphModule(model, part)
