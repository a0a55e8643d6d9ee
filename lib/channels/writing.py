"""Numbers of channels in traced graphs: those that are written into operations, and those that a network asks for."""

import re
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from torch import fx, nn

from ..trace import parts
from ..trace.graph import Trace
from ..trace.shapes import walk
from ..trace.subnetwork import Part
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


def rewritten(
    model: nn.Module, modes: Sequence[Trace], numbers: Sequence[Mapping[Place, int]], trim: bool
) -> nn.Module:
    """`model` as its graphs in eval and in train mode, with other numbers of channels written into them, the logits as
    the only output; itself where there are none and no other output, and nothing is to be trimmed that is not used.
    """
    for found, written in zip(modes, numbers, strict=True):
        nodes = {node.name: node for node in found.graph.nodes}
        for (name, at), number in written.items():
            node = nodes[name]
            node.args, node.kwargs = _with(node.args, node.kwargs, at, number)
    if not any(numbers) and all(found.bare for found in modes) and not trim:
        return model
    evaluating, training = (replace(found.to_run("the network"), model=model) for found in modes)
    return Part(evaluating, parts.whole(evaluating), training, parts.whole(training)).eval()


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
