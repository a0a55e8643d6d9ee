"""How a network is traced: its operations as a torch.fx graph, and the places where one tensor is alive.

Content is what depends on the pixels. Sizes (numbers and shapes that an operation reads off a tensor) and what is made
from them alone are not content: every part of a network makes them anew, from the batch size and constants.
"""

import inspect
import random
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy
import torch
from torch import fx, nn

from ..base.errors import BrickyardError
from .cost import BATCHES
from .effects import after
from .shapes import record
from .tracer import Tracer, tensors

_COPYING = {"contiguous", "flatten", "ravel", "reshape", "reshape_as", "to", "type_as", "unflatten", "view", "view_as"}


@dataclass
class Trace:
    """The operations of `model` in one mode, with the value of each at both BATCHES, shapes only.

    values, macs, memory: by node, as in `lib.trace.shapes.Record`.
    constants: tensors that the network makes from nothing as it runs, by target.
    content: operations whose value depends on the pixels.
    changes: by node, the values that an operation changes in place, whose later readers depend on it.
    modes: whether each module, by path, was in train mode.
    chance: whether the network drew random numbers by itself, which the graph has once and for all.

    `node.meta["path"]` is the module that an operation belongs to.
    """

    model: nn.Module
    graph: fx.Graph
    values: dict[fx.Node, tuple[Any, Any]] = field(default_factory=dict)
    macs: dict[fx.Node, int] = field(default_factory=dict)
    memory: dict[fx.Node, int] = field(default_factory=dict)
    constants: dict[str, torch.Tensor] = field(default_factory=dict)
    content: set[fx.Node] = field(default_factory=set)
    changes: dict[fx.Node, frozenset[fx.Node]] = field(default_factory=dict)
    modes: dict[str, bool] = field(default_factory=dict)
    chance: bool = False

    def to_run(self, name: str) -> "Trace":
        """Itself; raises BrickyardError where a graph cannot stand for the network, since that goes by chance."""
        if self.chance:
            raise BrickyardError(
                f"{name}: goes by random numbers that it draws by itself (torch.rand(1), random.random()); declare the "
                "modules in which it does (nodes: [...]), or leave it out"
            )
        return self

    @property
    def bare(self) -> bool:
        """Whether the network returns the logits and nothing else."""
        return next(node for node in self.graph.nodes if node.op == "output").args[0] is self.output

    @cached_property
    def memory_format(self) -> torch.memory_format:
        """The memory format of images which runs quickest: channels last, unless the network sees in which order
        numbers lie: it takes views of maps, or changes in place what is a copy in one order and no copy in another.
        """
        views = [node for node in self.graph.nodes if node.op == "call_method" and node.target == "view"]
        ordered = any(self.tensor(node.all_input_nodes[0])[0].squeeze().ndim > 1 for node in views)
        changed = any(self._may_copy(one) for ones in self.changes.values() for one in ones)
        return torch.contiguous_format if ordered or changed else torch.channels_last

    def _may_copy(self, node: fx.Node) -> bool:
        if node.op == "call_module":
            return isinstance(self.model.get_submodule(str(node.target)), nn.Flatten | nn.Unflatten)
        return node.target is after or getattr(node.target, "__name__", node.target) in _COPYING

    @cached_property
    def cuts(self) -> list[fx.Node]:
        """The values that are, at some place in the order, the only live content; the input first, the output left out.

        A value lives from its operation to its last use. Only tensors whose first dimension is the batch can be cut.
        """
        return _boundaries(self)

    def tensor(self, node: fx.Node) -> torch.Tensor:
        """The value of an operation for the smaller batch, on the meta device."""
        return self.values[node][0]

    @property
    def input(self) -> fx.Node:
        """The node of the images."""
        return next(node for node in self.graph.nodes if node.op == "placeholder")

    @property
    def output(self) -> fx.Node:
        """The logits; the first tensor where a network returns several (auxiliary outputs are left out)."""
        returned = next(node for node in self.graph.nodes if node.op == "output")
        first: list[fx.Node] = []
        fx.map_arg(returned.args[0], lambda node: first.append(node) or node)
        node = first[0]
        while not isinstance(self.tensor(node), torch.Tensor):  # a tuple with a name is an operation of its own
            node = node.all_input_nodes[0]
        return node


def quickest(model: nn.Module, name: str, shape: tuple[int, ...]) -> torch.memory_format:
    """The memory format in which `model` runs quickest, and may run, in eval and in train mode, for images of `shape`
    [3, h, w]; the usual one where it cannot be traced. The model is left as it was.
    """
    try:
        traces = [trace(model, name, shape, train=train, costs=False) for train in (False, True)]
    except BrickyardError:
        return torch.contiguous_format
    formats = {found.memory_format for found in traces}
    return torch.channels_last if formats == {torch.channels_last} else torch.contiguous_format


def trace(
    model: nn.Module,
    name: str,
    shape: tuple[int, ...],
    leaves: Collection[str] = (),
    train: bool = False,
    costs: bool = True,
) -> Trace:
    """The operations of `model` for images of `shape` [3, h, w]; modules at the paths `leaves` are one operation each.

    costs: whether macs and, in eval mode, memory are counted, too.

    Weights and images are replaced by their shapes, nothing is computed, unless a leaf's control flow depends on the
    pixels: then a copy of the model runs on random images. The model is left as it was. Raises BrickyardError naming
    the model when torch.fx cannot trace it or it does not take one batch of images.
    """
    _check_inputs(model, name)
    with _left_alone(model):
        attributes = set(vars(model))
        try:
            before = _random_state()
            graph = Tracer(leaves, shape).trace(model.train(train))
            for node in graph.nodes:
                stack = node.meta.get("nn_module_stack") or {"": ("", None)}
                node.meta["path"] = node.target if node.op == "call_module" else list(stack.values())[-1][0]
            found = Trace(model, graph, modes={path: module.training for path, module in model.named_modules()})
            found.chance = _random_state() != before
            _take_constants(found, set(vars(model)) - attributes, "train" if train else "eval")
            made = record(model, graph, found.constants, shape, costs)
        except BrickyardError:
            raise
        except Exception as error:  # whatever a model's own forward raises on a proxy or on shapes
            reason = " ".join(str(error).split())[:200]
            raise BrickyardError(f"{name}: cannot be traced ({type(error).__name__}: {reason})") from error
    found.values, found.changes, found.macs, found.memory = made.values, made.changes, made.macs, made.memory
    found.content = _content(found)
    return found


def _random_state() -> list[Any]:
    kind, keys, *rest = numpy.random.get_state()
    return [torch.get_rng_state().numpy().tobytes(), random.getstate(), kind, numpy.asarray(keys).tobytes(), *rest]


@contextmanager
def _left_alone(model: nn.Module) -> Iterator[None]:
    """Afterwards all modules have the mode and the attributes that they had before, whatever happened inside."""
    kept = [(own, dict(own)) for module in model.modules() for own in _stores(module)]
    try:
        yield
    finally:
        for own, before in kept:
            own.clear()
            own.update(before)


def _stores(module: Any) -> list[dict[str, Any]]:
    return [vars(module), module._parameters, module._buffers, module._modules]


def _check_inputs(model: nn.Module, name: str) -> None:
    """Raises BrickyardError unless `model` takes one thing, the images, where nothing optional is given."""
    parameters = inspect.signature(model.forward).parameters.values()
    places = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD, p.VAR_POSITIONAL)]
    needed = [p.name for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    if not places or len(needed) > 1 or needed[:1] not in ([], [places[0].name]):
        inputs = f"{len(needed)} inputs ({', '.join(needed)})" if needed else "no input"
        raise BrickyardError(f"{name}: takes {inputs}; a network must take one batch of images")


def _take_constants(found: Trace, names: set[str], mode: str) -> None:
    """torch.fx leaves tensors that it met on the way on the model: they move to the trace, under names of their own."""
    for node in found.graph.nodes:
        if node.op == "get_attr" and node.target in names:
            target = f"constant_{mode}{str(node.target).lstrip('_')}"
            found.constants[target] = getattr(found.model, str(node.target)).detach()
            node.target = target


def _content(found: Trace) -> set[fx.Node]:
    content: set[fx.Node] = set()
    for node in found.graph.nodes:
        dependent = node.op == "placeholder" or any(source in content for source in node.all_input_nodes)
        if dependent and node.op != "output" and tensors(found.values[node][0]):
            content.add(node)
    return content


def _boundaries(found: Trace) -> list[fx.Node]:
    order = {node: position for position, node in enumerate(found.graph.nodes)}
    output = found.output
    needed = behind(output, found.input)
    last_use = {
        node: max((order[user] for user in node.users if user in needed), default=order[node])
        for node in found.content
        if node in needed
    }
    cuts: list[fx.Node] = []
    alive: set[fx.Node] = set()
    for node in found.graph.nodes:
        if node is output:
            break
        if node in last_use:
            alive.add(node)
        alive = {value for value in alive if last_use[value] > order[node]}
        if len(alive) == 1 and (only := next(iter(alive))) not in cuts and _cuttable(found, only):
            cuts.append(only)
    return cuts


def _cuttable(found: Trace, node: fx.Node) -> bool:
    values = found.values[node]
    if not all(isinstance(value, torch.Tensor) for value in values):
        return False
    sizes = tuple(value.shape[0] if value.ndim else 0 for value in values)
    return sizes == BATCHES and 2 <= values[0].ndim <= 4 and values[0].is_floating_point()


def behind(end: fx.Node, start: fx.Node) -> set[fx.Node]:
    """Operations that `end` depends on, itself included, not going beyond `start`."""
    needed: set[fx.Node] = set()
    stack = [end]
    while stack:
        node = stack.pop()
        if node not in needed:
            needed.add(node)
            if node is not start:
                stack.extend(node.all_input_nodes)
    return needed
