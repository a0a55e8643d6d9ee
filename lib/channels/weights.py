"""Weights that are met outside of layers (biases, scales, tables of positions): which of their rows follow channels.

Each element of each weight and buffer has a number; whatever moves elements is done to the numbers.
"""

from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import fx

from . import operations
from .following import Following
from .operations import Operation

_MOVING = (
    operations.RESHAPING | operations.TURNING | operations.EXPANDING | operations.ROLLING | {torch.Tensor.contiguous}
)
_JOINING = {torch.cat, torch.concat, torch.concatenate, torch.stack}


@dataclass(frozen=True)
class Home:
    """A weight or buffer whose elements are numbered from `first` on."""

    path: str
    first: int
    shape: tuple[int, ...]


def follow(at: Following, node: fx.Node) -> None:
    """Notes which elements of which weights an operation without pixels gives, if it does nothing but move them, or to
    each by itself; where there are no weights, the numbers that it gives.
    """
    value = at.found.values[node][0]
    if not isinstance(value, torch.Tensor):
        return
    if node.op == "get_attr":
        _start(at, node, value)
        return
    weights = [one for one in node.all_input_nodes if one in at.pieces]
    try:
        if weights:
            at.pieces[node] = _made(at, node, weights, Operation(node, at.modules), value)
        elif all(one in at.known for one in node.all_input_nodes) and not value.is_floating_point():
            made = at.done_to(node, {})
            if isinstance(made, torch.Tensor) and not made.is_meta:
                at.known[node] = made
    except (KeyError, RuntimeError, TypeError, NotImplementedError):  # what cannot be done to numbers
        at.pieces.pop(node, None)
    if not at.pieces.get(node, [torch.zeros(())]):
        del at.pieces[node]


def _start(at: Following, node: fx.Node, value: torch.Tensor) -> None:
    path = str(node.target)
    if path in at.found.constants:
        at.known[node] = at.found.constants[path]
        return
    given = at.parameter(path)
    if not value.is_floating_point():
        if not given.is_meta:
            at.known[node] = given.detach().cpu()
        return
    home = next((one for one in at.homes if one.path == path), None)
    if home is None:
        home = Home(path, at.homes[-1].first + prod(at.homes[-1].shape) if at.homes else 0, tuple(value.shape))
        at.homes.append(home)
    at.pieces[node] = [torch.arange(home.first, home.first + prod(home.shape)).view(home.shape)]


def _made(
    at: Following, node: fx.Node, weights: list[fx.Node], operation: Operation, value: torch.Tensor
) -> list[torch.Tensor]:
    """The numbers of the elements that stand where, once for every weight that they are made of."""
    function, shape = operation.function, tuple(value.shape)
    if function in _JOINING:
        if any(len(at.pieces.get(one, [0])) > 1 for one in node.all_input_nodes):
            return []
        nothing = {one: torch.full(at.shape(one), -1) for one in node.all_input_nodes}
        return [at.done_to(node, nothing | {one: at.pieces[one][0] for one in weights})]
    if function in operations.ELEMENTWISE or operation.is_pointwise:
        return [ids.expand(shape) for one in weights for ids in at.pieces[one]]
    first: Any = node.all_input_nodes[0]
    if function in _MOVING or operation.called == "getitem":
        return [at.done_to(node, {first: ids}).reshape(shape) for ids in at.pieces[first]]
    return []


def axes(at: Following) -> dict[str, dict[int, list[int]]]:
    """For each weight that was met the axis along which its elements follow channels, with their labels.

    Elements that meet several channels tie these together, as do those of one row. What is no weight keeps the
    channels that it meets, and a weight whose channels all stay is left out.
    """
    found: dict[str, dict[int, list[int]]] = {}
    if not at.met:
        return found
    ids, labels = (torch.cat(some) for some in zip(*at.met, strict=True))
    at.fixed += labels[ids < 0].unique().tolist()
    fixed = {at.root(label) for label in at.fixed}
    for home in at.homes:
        inside = (ids >= home.first) & (ids < home.first + prod(home.shape))
        if not inside.any():
            continue
        own, theirs = ids[inside] - home.first, labels[inside]
        if {at.root(label) for label in theirs.unique().tolist()} <= fixed:
            continue
        first = torch.full((prod(home.shape),), -1)
        first[own] = theirs
        at.join(first[own], theirs)
        axis = _axis(at, first.view(home.shape))
        table = first.view(home.shape).movedim(axis, 0).reshape(home.shape[axis], -1)
        rows = table.amax(1)
        at.join(torch.where(table < 0, rows[:, None], table), rows[:, None])
        found[home.path] = {axis: [max(0, label) for label in rows.tolist()]}
    return found


def _axis(at: Following, labels: torch.Tensor) -> int:
    """The axis along whose rows the fewest labels have to become one: the one whose rows have one already, if any."""
    known = [at.root(label) if label >= 0 else -1 for label in labels.flatten().tolist()]
    rooted = torch.tensor(known).view(labels.shape)

    def joins(axis: int) -> int:
        rows = rooted.movedim(axis, 0).reshape(labels.shape[axis], -1)
        return sum(len({*row} - {-1}) - 1 for row in rows.tolist() if {*row} != {-1})

    return min(range(labels.ndim), key=lambda axis: (joins(axis), -labels.shape[axis]))
