"""Numbers of channels in traced graphs: those that are written into operations, and those that a network asks for."""

import re
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional as F

from ..trace import parts
from ..trace.effects import after
from ..trace.graph import Trace
from ..trace.shapes import walk
from ..trace.subnetwork import Part
from ..trace.tracer import tensors
from .channels import Coupling, Size

Place = tuple[str, tuple[int | str, ...]]  # of a number in a traced graph: `node` and `at` of a Size
_OF_HEADS = re.compile("head|attn")  # what attributes are called that count heads, or channels of all heads


def numbers(coupling: Coupling, chosen: Collection[int]) -> dict[Place, int]:
    """The numbers that are written into a graph, where it keeps the `chosen` channels."""
    return _numbers(coupling.sizes, chosen)


def changed(coupling: Coupling, chosen: Collection[int]) -> dict[Place, int]:
    """Those of them that are others than in the whole network."""
    return _numbers([size for size in coupling.sizes if not set(size.channels) <= {*chosen}], chosen)


def _numbers(sizes: Sequence[Size], chosen: Collection[int]) -> dict[Place, int]:
    return {(size.node, size.at): size.others + sum(one in chosen for one in size.channels) for size in sizes}


def answers(found: Trace, model: nn.Module, coupling: Coupling, chosen: Collection[int]) -> dict[Place, int]:
    """The numbers that have to be written into a graph beside `numbers`, since `model`, which has been cut, would
    answer with others when it asks tensors for them.

    found: of the network before that, whose modules are those of `model`.
    """
    wanted = _numbers(coupling.asked, chosen)
    if not wanted:
        return {}
    places: dict[str, list[tuple[int | str, ...]]] = {}
    for node, at in wanted:
        places.setdefault(node, []).append(at)
    written, needed = numbers(coupling, chosen), dict[Place, int]()

    def before(node: fx.Node, args: Any, kwargs: Any) -> tuple[Any, Any]:
        told = {at: number for (name, at), number in written.items() if name == node.name}
        for at in places.get(node.name, ()):
            if _read(args, kwargs, at) != wanted[node.name, at]:
                told[at] = needed[node.name, at] = wanted[node.name, at]
        for at, number in told.items():
            args, kwargs = _with(args, kwargs, at, number)
        return args, kwargs

    with suppress(Exception):  # whatever a network does with numbers that it was not written for: it is compared later
        walk(model, found.graph, found.constants, tuple(found.tensor(found.input).shape[1:]), before)
    return needed


def wanted(coupling: Coupling, chosen: Collection[int]) -> dict[Place, int]:
    """All numbers of the `chosen` channels that a graph has, those that are written into it and those asked for."""
    return _numbers((*coupling.sizes, *coupling.asked), chosen)


def is_alike(found: Trace, again: Trace, wanted: Mapping[Place, int]) -> bool:
    """Whether the operations of both are the same, but for `wanted` numbers, which the second has at places of the
    first, and for sizes, which may be others if they are made in the same way.
    """
    return _Alike(found, again, wanted).result()


class _Alike:
    """Two traces, operation by operation; see `is_alike`."""

    def __init__(self, found: Trace, again: Trace, wanted: Mapping[Place, int]):
        self._found, self._again, self._wanted = found, again, wanted
        self._twins: dict[fx.Node, fx.Node] = {}

    def result(self) -> bool:
        """Whether they are alike."""
        acting, others = (
            [node for node in parts.needed(one) if _acts(one, node)] for one in (self._found, self._again)
        )
        self._twins = dict(zip(acting, others, strict=False))
        return len(acting) == len(others) and all(self._node(a, b, a.name) for a, b in self._twins.items())

    def _node(self, a: fx.Node, b: fx.Node, name: str | None) -> bool:
        """Two operations; name: of the first, where numbers may be wanted in it."""
        if a.op == b.op == "get_attr" and a.target in self._found.constants and b.target in self._again.constants:
            return _equal(self._found.constants[str(a.target)], self._again.constants[str(b.target)])
        same = a.op == b.op and a.target == b.target and self._both(a.args, b.args, name, ())
        return same and self._both(a.kwargs, b.kwargs, name, ())

    def _both(self, a: Any, b: Any, name: str | None, at: tuple[int | str, ...]) -> bool:
        """What two operations are given at one place."""
        a, b = _given(a), _given(b)
        if isinstance(a, fx.Node) and a in self._twins:
            return self._twins[a] is b
        if isinstance(b, fx.Node) and _acts(self._again, b):
            return False
        if name is not None and (number := self._wanted.get((name, at))) is not None:
            return _values(self._again, b) == (number, number)
        if isinstance(a, fx.Node) or isinstance(b, fx.Node):
            if _values(self._found, a) == _values(self._again, b):
                return True
            return isinstance(a, fx.Node) and isinstance(b, fx.Node) and self._node(a, b, None)
        if isinstance(a, slice) and isinstance(b, slice):
            return all(
                self._both(getattr(a, key), getattr(b, key), name, (*at, key)) for key in ("start", "stop", "step")
            )
        if isinstance(a, dict) and isinstance(b, dict):
            return a.keys() == b.keys() and all(self._both(a[key], b[key], name, (*at, key)) for key in a)
        if isinstance(a, list | tuple) and isinstance(b, list | tuple):
            pairs = enumerate(zip(a, b, strict=False))
            return len(a) == len(b) and all(self._both(*pair, name, (*at, i)) for i, pair in pairs)
        return repr(a) == repr(b)


def _acts(found: Trace, node: fx.Node) -> bool:
    """Whether an operation makes a tensor, and no size."""
    return node.target is not after and (node.op == "get_attr" or bool(tensors(found.values[node][0])))


def _given(value: Any) -> Any:
    while isinstance(value, fx.Node) and value.target is after:
        value = value.args[0]
    return value


def _values(found: Trace, value: Any) -> tuple[Any, Any]:
    """A size for both batches."""
    return found.values[value] if isinstance(value, fx.Node) else (value, value)


def _equal(a: torch.Tensor, b: torch.Tensor) -> bool:
    same = a.shape == b.shape and a.dtype == b.dtype
    return same and bool(((a == b) | ((a != a) & (b != b))).all())  # a mask may hold NaN


def rewritten(model: nn.Module, modes: Sequence[Trace], numbers: Sequence[Mapping[Place, int]]) -> nn.Module:
    """`model` as its graphs in eval and in train mode, with other numbers of channels written into them, the logits as
    the only output, and nothing that is not used.
    """
    for found, written in zip(modes, numbers, strict=True):
        nodes = {node.name: node for node in found.graph.nodes}
        for (name, at), number in written.items():
            node = nodes[name]
            node.args, node.kwargs = _with(node.args, node.kwargs, at, number)
    evaluating, training = (replace(found.to_run("the network"), model=model) for found in modes)
    in_eval, in_train = (_with_biases(model, parts.whole(found)) for found in (evaluating, training))
    return Part(evaluating, in_eval, training, in_train).eval()


def _with_biases(model: nn.Module, graph: fx.Graph) -> fx.Graph:
    """`graph` itself: a function that is given the weight of a linear layer without a bias looks whether it has got one
    since, as the layer would.
    """
    for node in graph.find_nodes(op="call_function", target=F.linear):
        weight: Any = dict(zip(("input", "weight", "bias"), node.args, strict=False)).get("weight")
        weight = node.kwargs.get("weight", weight)
        owner, _, name = str(weight.target).rpartition(".")
        layer = model.get_submodule(owner) if weight.op == "get_attr" and name == "weight" else None
        given = node.args[2] if len(node.args) > 2 else node.kwargs.get("bias")
        if isinstance(layer, nn.Linear) and layer.bias is None and given is None:
            with graph.inserting_before(node):
                bias = graph.create_node("get_attr", f"{owner}.bias")
            node.args, node.kwargs = node.args[:2], {**node.kwargs, "bias": bias}
    return graph


def renumber(model: nn.Module, found: Trace, written: Mapping[Place, int]) -> dict[tuple[str, str], int]:
    """Changes attributes of modules that count heads as the numbers `written` into their operations change.

    Returns what they were, by module and name; nothing where a number is not such an attribute of its module.
    """
    nodes, changed, before = {node.name: node for node in found.graph.nodes}, dict[tuple[str, str], int](), {}
    for (name, at), number in written.items():
        path, old = str(nodes[name].meta["path"]), _read(nodes[name].args, nodes[name].kwargs, at)
        if isinstance(old, fx.Node):
            old = found.values[old][0]
        own = vars(model.get_submodule(path))
        names = [key for key, value in own.items() if _OF_HEADS.search(key) and type(value) is int and value == old]
        if not names:
            return {}
        for key in names:
            changed[path, key], before[path, key] = number, old
    restore(model, changed)
    return before


def restore(model: nn.Module, attributes: Mapping[tuple[str, str], int]) -> None:
    """Gives modules attributes, by path and name."""
    for (path, key), value in attributes.items():
        setattr(model.get_submodule(path), key, value)


def _read(args: Any, kwargs: Any, at: tuple[int | str, ...]) -> Any:
    value = kwargs if isinstance(at[0], str) else args
    for one in at:
        value = getattr(value, str(one)) if isinstance(value, slice) else value[one]
    return value


def _with(args: Any, kwargs: Any, at: tuple[int | str, ...], number: int) -> tuple[Any, Any]:
    first, *rest = at
    if isinstance(first, str):
        return args, {**kwargs, first: _replaced(kwargs[first], rest, number)}
    changed = list(args)
    changed[first] = _replaced(args[first], rest, number)
    return tuple(changed), kwargs


def _replaced(value: Any, at: list[int | str], number: int) -> Any:
    if not at:
        return number
    if isinstance(value, slice):
        return slice(number, value.stop) if at[0] == "start" else slice(value.start, number)
    items = list(value)
    items[int(at[0])] = _replaced(items[int(at[0])], at[1:], number)
    return tuple(items)
