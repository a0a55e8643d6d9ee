"""Operations that change a tensor in place, and graphs made to say so: who reads it later depends on the change."""

from functools import cache
from typing import Any

import torch
from torch import fx
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from .tracer import tensors


def after(value: Any, *_: Any) -> Any:
    """`value` as it is once the operations that gave the other arguments, which have changed it, are done."""
    return value


@cache
def _written_by(func: Any) -> tuple[tuple[int, str], ...]:
    """Place and name of each argument that an operation of PyTorch writes into."""
    arguments = getattr(getattr(func, "_schema", None), "arguments", ())
    return tuple(
        (i, own.name) for i, own in enumerate(arguments) if own.alias_info is not None and own.alias_info.is_write
    )


class Writes(TorchDispatchMode):
    """Inside, tells the memory that operations write into, as keys of `memory`."""

    def __init__(self) -> None:
        super().__init__()
        self._written: set[int] = set()

    def start(self) -> None:
        """Begins to watch."""
        self._written = set()

    def read(self) -> set[int]:
        """Memories written into since `start`."""
        return self._written

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        for i, name in _written_by(func):
            given = args[i] if i < len(args) else kwargs.get(name)
            self._written |= {memory(tensor) for tensor in tree_leaves(given) if isinstance(tensor, torch.Tensor)}
        return func(*args, **kwargs)


def memory(tensor: torch.Tensor) -> int:
    """What tells a tensor's memory: equal for all its views, as long as one of them is alive."""
    return tensor.untyped_storage()._cdata


def changes(values: dict[fx.Node, Any], written: dict[fx.Node, set[int]]) -> dict[fx.Node, list[fx.Node]]:
    """For each operation the values made before that lie in memory into which it writes.

    values: of all operations, in their order, all alive; written: the memory that each has written into.
    """
    homes: dict[int, list[fx.Node]] = {}
    found: dict[fx.Node, list[fx.Node]] = {}
    for node, value in values.items():
        changed = dict.fromkeys(one for key in sorted(written.get(node, ())) for one in homes.get(key, ()))
        if changed:
            found[node] = list(changed)
        for tensor in tensors(value):
            homes.setdefault(memory(tensor), []).append(node)
    return found


def thread(
    graph: fx.Graph, values: dict[fx.Node, Any], changed: dict[fx.Node, list[fx.Node]], constants: set[str]
) -> dict[fx.Node, frozenset[fx.Node]]:
    """Rewrites `graph` so that who reads a value after an operation has changed it in place depends on that operation.

    A reader is given the operation's own result where that is the very same tensor, else `after(value, operation)`.
    What changes a weight or buffer runs before the next operation on pixels, if nobody else reads it. A tensor among
    `constants`, made once for all runs, is copied first. Returns `changed` with the values that were added, which
    `values` has then, too.
    """
    place = {node: i for i, node in enumerate(graph.nodes)}
    instead: dict[fx.Node, fx.Node] = {}
    for one in dict.fromkeys(one for ones in changed.values() for one in ones):
        if one.op == "get_attr" and str(one.target) in constants:
            instead[one] = _copied(graph, one, place)
            values[instead[one]] = values[one]
    stand_ins: dict[fx.Node, list[fx.Node]] = {}
    found: dict[fx.Node, frozenset[fx.Node]] = {}
    for node, before in changed.items():
        ones = [instead.get(one, one) for one in before]
        touched = [(one, value) for one in ones for value in (one, *stand_ins.get(one, ()))]
        found[node] = frozenset(value for _, value in touched)
        for one, value in touched:
            late = [user for user in value.users if user is not node and place[user] > place[node]]
            if not late:
                continue
            other = node
            if not _same(values[one], values[node]):
                other = _after(graph, value, node, place)
                values[other] = values[one]
                stand_ins.setdefault(one, []).append(other)
            for user in late:
                user.replace_input_with(value, other)
        if any(one.op == "get_attr" for one in ones) and not any(place[user] > place[node] for user in node.users):
            _tie(graph, node, values, place)
    return found


def hold_gradients(graph: fx.Graph, values: dict[fx.Node, Any]) -> None:
    """What a network computes without gradients reaches what it computes with them detached; `values` has that, too."""
    for node in list(graph.nodes):
        late = [user for user in node.users if node.meta.get("no_grad") and not user.meta.get("no_grad")]
        if late and isinstance(values.get(node), torch.Tensor) and node.op != "placeholder":
            with graph.inserting_after(node):
                held = graph.call_method("detach", (node,))
            held.meta, values[held] = dict(node.meta), values[node]
            for user in late:
                user.replace_input_with(node, held)


def _same(a: Any, b: Any) -> bool:
    """Whether two values are one tensor: the same memory, seen alike."""
    if not (isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor)) or memory(a) != memory(b):
        return False
    return (a.shape, a.stride(), a.storage_offset()) == (b.shape, b.stride(), b.storage_offset())


def _copied(graph: fx.Graph, constant: fx.Node, place: dict[fx.Node, int]) -> fx.Node:
    with graph.inserting_after(constant):
        copy = graph.call_method("clone", (constant,))
    copy.meta, place[copy] = dict(constant.meta), place[constant]
    constant.replace_all_uses_with(copy, delete_user_cb=lambda user: user is not copy)
    return copy


def _after(graph: fx.Graph, value: fx.Node, node: fx.Node, place: dict[fx.Node, int]) -> fx.Node:
    with graph.inserting_after(node):
        made = graph.call_function(after, (value, node))
    made.meta, place[made] = dict(node.meta), place[node]
    return made


def _tie(graph: fx.Graph, node: fx.Node, values: dict[fx.Node, Any], place: dict[fx.Node, int]) -> None:
    """Makes the next operation on pixels behind `node` depend on it."""
    pixels: set[fx.Node] = set()
    for one in graph.nodes:
        sources = [source for source in one.all_input_nodes if source in pixels]
        if sources and place[one] > place[node]:
            made = _after(graph, sources[0], node, place)
            values[made] = values[sources[0]]
            one.replace_input_with(sources[0], made)
            return
        if one.op == "placeholder" or (sources and tensors(values[one])):
            pixels.add(one)
