"""Who reads what a layer makes, and what is made of it on the way."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import fx

_CONCATENATING = (torch.cat, torch.concat, torch.concatenate)


@dataclass(frozen=True)
class Reading:
    """What is made of a layer's output, operation by operation, and the layers that read that: none where anything else
    does, or one of them has run already.
    """

    way: list[fx.Node]
    readers: list[fx.Node]


def reading(
    first: fx.Node, after: Sequence[fx.Node], is_layer: Callable[[fx.Node], bool], there: Callable[[fx.Node], bool]
) -> Reading | None:
    """Who reads what `first` makes, among the operations `after` it; None as long as what that is concatenated with is
    not there.
    """
    found, touched = Reading([], []), {first}
    for node in after:
        if touched.isdisjoint(node.all_input_nodes):
            continue
        if is_layer(node):
            if there(node):
                return Reading([], [])
            found.readers.append(node)
            continue
        if node.op == "output" or (len(node.all_input_nodes) > 1 and node.target not in _CONCATENATING):
            return Reading([], [])
        if not all(there(source) for source in node.all_input_nodes if source not in touched):
            return None
        found.way.append(node)
        touched.add(node)
    return found
