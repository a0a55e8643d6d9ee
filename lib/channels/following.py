"""Channels followed through a traced graph: what is known of every value, and what happens where values meet.

A value's labels are a tensor of integers as long as the value along the dimensions along which channels lie, and of
length one along all others: which channel each of its elements belongs to. So whatever only moves elements is done to
the labels as it is done to the values. Label 0 belongs to what is always there.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import torch
from torch import fx
from torch.fx.node import map_arg

from ..base.errors import BrickyardError
from ..trace.cost import BATCHES
from ..trace.graph import Trace
from ..trace.tracer import tensors
from .labels import compact, expanded, pairs, varying


@dataclass(frozen=True)
class Written:
    """A number of channels, `value`, in operation `node` at `at` (see `lib.channels.channels.Size`): as many as there
    are labels along `dim`.
    """

    node: fx.Node
    at: tuple[int | str, ...]
    value: Any
    labels: torch.Tensor
    dim: int


class Following:
    """What is known so far.

    labels: of every value that has been followed, a list where an operation gives several.
    pieces, homes: of values that are made of weights alone the numbers of their elements; see `lib.channels.weights`.
    known: numbers of values that are made of nothing else.
    fixed: channels that must stay; why: the first operation that made them, with a reason.
    grids: labels that vary along several dimensions; in the end they do along one.
    written: numbers of channels that are written into operations.
    met: numbers of elements of weights, and the labels that they meet.
    """

    def __init__(self, found: Trace, name: str):
        self.found, self.name = found, name
        self.modules = dict(found.model.named_modules())
        self.parents = [0]
        self.labels: dict[fx.Node, Any] = {}
        self.pieces: dict[fx.Node, list[torch.Tensor]] = {}
        self.homes: list[Any] = []
        self.known: dict[fx.Node, torch.Tensor] = {}
        self.fixed = [0]
        self.why: str | None = None
        self.grids: list[torch.Tensor] = []
        self.written: list[Written] = []
        self.met: list[tuple[torch.Tensor, torch.Tensor]] = []
        images = found.tensor(found.input)
        self.labels[found.input] = self.new(images.shape[1]).view(1, -1, *[1] * (images.ndim - 2))
        self.fixed += self.labels[found.input].flatten().tolist()

    def new(self, count: int) -> torch.Tensor:
        """Labels that are not yet joined with any, [count]."""
        self.parents += range(len(self.parents), len(self.parents) + count)
        return torch.arange(len(self.parents) - count, len(self.parents))

    def root(self, label: int) -> int:
        """The label that stands for all that are joined with this one."""
        while self.parents[label] != label:
            self.parents[label] = self.parents[self.parents[label]]
            label = self.parents[label]
        return label

    def roots(self, labels: torch.Tensor) -> torch.Tensor:
        """The root of every label, along as few dimensions as they vary."""
        kinds, where = labels.unique(return_inverse=True)
        return compact(torch.tensor([self.root(one) for one in kinds.tolist()])[where])

    def join(self, a: torch.Tensor, b: torch.Tensor) -> None:
        """Labels at the same place are one; a and b are broadcast."""
        for one, other in pairs(a, b):
            one, other = self.root(one), self.root(other)
            self.parents[max(one, other)] = min(one, other)

    def fix(self, labels: torch.Tensor, node: fx.Node, reason: str) -> None:
        """These channels stay, because of `node`."""
        found = [one for one in labels.unique().tolist() if one]
        self.fixed += found
        if found and self.why is None:
            self.why = f"{self.place(node)}: {reason}"

    def shape(self, node: fx.Node) -> tuple[int, ...]:
        """The shape of what an operation gives for the smaller batch."""
        return tuple(self.found.tensor(node).shape)

    def sources(self, node: fx.Node) -> list[fx.Node]:
        """What an operation is given that depends on the pixels."""
        return [source for source in node.all_input_nodes if source in self.labels]

    def source(self, node: fx.Node) -> fx.Node | None:
        """The only one of these, if it is one tensor."""
        sources = self.sources(node)
        return sources[0] if len(sources) == 1 and isinstance(self.labels[sources[0]], torch.Tensor) else None

    def only(self, node: fx.Node) -> fx.Node:
        """The same of an operation that is known to have one."""
        source = self.source(node)
        assert source is not None
        return source

    def parameter(self, path: str) -> torch.Tensor:
        """A weight or buffer of the network."""
        owner, _, last = path.rpartition(".")
        return getattr(self.modules[owner], last)

    def size(self, value: Any) -> int | None:
        """A number that is written, or is the same for every batch."""
        if isinstance(value, fx.Node):
            first, second = self.found.values[value]
            return first if isinstance(first, int) and first == second else None
        return value if isinstance(value, int) and not isinstance(value, bool) else None

    def plain(self, value: Any) -> Any:
        """An argument with the numbers that it has for the smaller batch; raises KeyError for a tensor not known."""

        def number(node: fx.Node) -> Any:
            first = self.found.values[node][0]
            return self.known[node] if tensors(first) else first

        return map_arg(value, number)

    def write(self, node: fx.Node, at: tuple[int | str, ...], value: Any, labels: torch.Tensor, dim: int) -> None:
        """`value`, which stands in `node`, counts the labels along `dim`."""
        if self.size(value) is not None:
            self.written.append(Written(node, at, value, labels, dim))

    def hold(self, labels: torch.Tensor, dims: Iterable[int], node: fx.Node, reason: str) -> torch.Tensor:
        """The labels where nothing can be taken out along `dims` by itself: what lies along them stands or falls
        together if it varies along other dimensions, too (what a head has), else it stays.
        """
        dims = sorted({dim % labels.ndim for dim in dims} & {*varying(labels)})
        labels = self.roots(labels) if dims else labels
        for dim in dims:
            if labels.shape[dim] > 1 and len(varying(labels)) > 1:
                self.join(labels.narrow(dim, 0, 1), labels)
                labels = self.roots(labels)
            elif labels.shape[dim] > 1:
                self.fix(labels, node, reason)
        return labels

    def meet(self, node: fx.Node, operands: Sequence[Any], shape: tuple[int, ...]) -> torch.Tensor:
        """The labels of a value of `shape` all of whose elements are made of the elements of `operands` at their place.

        operands: operations, or labels with a shape. What is broadcast along all channels stays; what is along some
        ties these together.
        """
        content, others = list[tuple[torch.Tensor, tuple[int, ...]]](), list[fx.Node]()
        for one in operands:
            if isinstance(one, fx.Node) and one not in self.labels:
                others.append(one)
                continue
            labels, own = (self.labels[one], self.shape(one)) if isinstance(one, fx.Node) else one
            before = [1] * (len(shape) - len(own))
            content.append((labels.view(*before, *labels.shape), (*before, *own)))
        along = sorted({dim for labels, _ in content for dim in varying(labels)})
        whole = [labels for labels, own in content if all(own[dim] == shape[dim] for dim in along)]
        if not whole:
            for labels, _ in content:
                self.fix(labels, node, "channels are multiplied with other channels in it")
            return torch.zeros([1] * len(shape), dtype=torch.long)
        made = max(whole, key=lambda labels: (len(varying(labels)), bool(labels.any())))
        made = made.expand([max(labels.shape[dim] for labels in whole) for dim in range(len(shape))])
        for labels, own in content:
            if labels.numel() == 1 and not labels.any():
                if any(own[dim] > 1 for dim in along):
                    self.fix(made, node, "channels meet what is always there")
            elif along and all(own[dim] < shape[dim] for dim in along) and not varying(labels):
                self.fix(labels, node, "channels are broadcast in it")
            else:
                self.join(made, labels)
        for one in others:
            self.weigh(node, one, made, along, shape)
        return compact(made)

    def weigh(
        self, node: fx.Node, other: fx.Node, labels: torch.Tensor, along: Sequence[int], shape: tuple[int, ...]
    ) -> None:
        """`other`, made without pixels, meets channels that lie `along` dimensions: its elements there follow them."""
        value = self.found.values[other][0]
        if not isinstance(value, torch.Tensor):
            return
        own = (*[1] * (len(shape) - value.ndim), *value.shape)
        if all(own[dim] == 1 for dim in along):
            return
        if other not in self.pieces:
            self.fix(labels, node, "channels meet a tensor that is no weight")
        for ids in self.pieces.get(other, ()):
            ids = compact(ids).reshape([1] * (len(shape) - value.ndim) + [*compact(ids).shape])
            sizes = [max(ids.shape[d], labels.shape[d]) for d in range(len(shape))]
            self.met.append((ids.expand(sizes).flatten(), labels.expand(sizes).flatten()))

    def opaque(self, node: fx.Node, reason: str) -> Any:
        """The labels of what an operation gives that is not known to leave channels apart: all it is given stays."""
        for source in self.sources(node):
            given = self.labels[source]
            for labels in given if isinstance(given, list) else [given]:
                self.fix(labels, node, reason)
        return self.always(self.found.values[node][0])

    def always(self, value: Any) -> Any:
        """The labels of a value, or of several, whose elements are always there."""
        if isinstance(value, torch.Tensor):
            return torch.zeros([1] * value.ndim, dtype=torch.long)
        return [self.always(one) if isinstance(one, torch.Tensor) else None for one in value]

    def done_to(self, node: fx.Node, given: dict[fx.Node, torch.Tensor]) -> Any:
        """What the operation `node`, which moves elements, makes of labels or ids instead of values."""

        def replaced(one: fx.Node) -> Any:
            return given[one] if one in given else self.plain(one)

        args, kwargs = map_arg((node.args, node.kwargs), replaced)
        if node.op == "call_module":
            return self.modules[str(node.target)](*args, **kwargs)
        function: Callable[..., Any] | Any = node.target
        if node.op == "call_method":
            function = getattr(torch.Tensor, str(node.target))
        return function(*args, **kwargs)

    def labels_in_full(self, node: fx.Node) -> torch.Tensor:
        """The labels of a value in its shape, without taking room for it."""
        return expanded(self.labels[node], self.shape(node))

    def place(self, node: fx.Node) -> str:
        """Where an operation is and what it does, for people."""
        module = self.modules.get(str(node.target)) if node.op == "call_module" else None
        named = getattr(node.target, "__name__", str(node.target))
        what = named if module is None else type(module).__name__
        return f"{node.meta.get('path') or 'its top level'} ({what.strip('_')})"

    def refuse(self, node: fx.Node, reason: str) -> NoReturn:
        """Raises BrickyardError naming the network, the module and the operation."""
        raise BrickyardError(f"{self.name}: cannot be taken apart at {self.place(node)}: {reason}")

    def has_images_first(self, node: fx.Node) -> bool:
        """Whether the first dimension of a value counts images, or windows, patches or tokens of each."""
        few, many = (value.shape[0] for value in self.found.values[node])
        return few * BATCHES[1] == many * BATCHES[0]
