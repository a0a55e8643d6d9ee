"""What the operations of a traced network give and cost, found by running them on shapes instead of numbers."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import fx, nn
from torch.fx.node import map_aggregate
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from . import effects
from .cost import BATCHES, Flops, PeakMemory, macs_of_one, without_data
from .duplicate import duplicate
from .tracer import on_meta

T = TypeVar("T")
Meter = effects.Writes | Flops | PeakMemory
Read = dict[fx.Node, Any]
Before = Callable[[fx.Node, Any, Any], tuple[Any, Any]]


@dataclass(frozen=True)
class Record:
    """What the operations of a graph give and cost.

    values[node]: what it gives for both BATCHES, shapes only; changes[node]: the values that it changes in place; where
    costs were asked for, macs[node]: for one image, and memory[node]: bytes of activations alive while it runs on one,
    in eval mode.
    """

    values: dict[fx.Node, tuple[Any, Any]]
    changes: dict[fx.Node, frozenset[fx.Node]]
    macs: dict[fx.Node, int]
    memory: dict[fx.Node, int]


def record(
    model: nn.Module, graph: fx.Graph, constants: dict[str, torch.Tensor], shape: tuple[int, ...], costs: bool = True
) -> Record:
    """Runs `graph`, the operations of `model` in its present mode, for images of `shape` [3, h, w], and makes it tell
    what they change in place (see `lib.trace.effects.thread`).

    Nothing is computed, unless control flow depends on the pixels: then a copy of the model runs on random images.
    """
    kinds = [Flops] if costs else []

    def smaller(runs: "_OnShapes") -> tuple[Read, dict[fx.Node, frozenset[fx.Node]], list[Read]]:
        values, (written, *flops) = runs.alive(BATCHES[0], [effects.Writes(), *(kind() for kind in kinds)])
        changes = effects.thread(graph, values, effects.changes(values, written), set(constants))
        effects.hold_gradients(graph, values)
        return _shapes(values), changes, flops

    def larger(runs: "_OnShapes") -> tuple[Read, list[Read]]:
        values, flops = runs.alive(BATCHES[1], [kind() for kind in kinds])
        return _shapes(values), flops

    def alone(runs: "_OnShapes") -> Read:
        return runs.read(1, [PeakMemory(runs.module)])[0]

    values, changes, flops = _run(model, graph, constants, shape, smaller)
    more_values, more_flops = _run(model, graph, constants, shape, larger)
    return Record(
        values={node: (values[node], more_values[node]) for node in graph.nodes},
        changes=changes,
        macs={
            node: macs_of_one(few.get(node, 0), many[node])  # what was added computes nothing
            for few, many in zip(flops, more_flops, strict=True)
            for node in graph.nodes
        },
        memory=_run(model, graph, constants, shape, alone) if costs and not model.training else {},
    )


def walk(
    model: nn.Module, graph: fx.Graph, constants: dict[str, torch.Tensor], shape: tuple[int, ...], before: Before
) -> None:
    """Runs `graph` for images of `shape` without numbers, as `record`; before(node, args, kwargs) gives what each
    operation is to be given instead.
    """

    def run(runs: "_OnShapes") -> None:
        runs.before = before
        runs.read(BATCHES[0], [])

    _run(model, graph, constants, shape, run)


def _shapes(values: Read) -> Read:
    return {node: map_aggregate(value, on_meta) for node, value in values.items()}


def _run(
    model: nn.Module,
    graph: fx.Graph,
    constants: dict[str, torch.Tensor],
    shape: tuple[int, ...],
    use: Callable[["_OnShapes"], T],
) -> T:
    try:
        with without_data(model), _LearningByShape():
            return use(_OnShapes(model, graph, constants, shape))
    except RuntimeError as error:
        asked_for_numbers = "meta" in str(error).lower()
        if not asked_for_numbers or any(parameter.is_meta for parameter in model.parameters()):
            raise
    copy = duplicate(model)
    for own, given in zip(copy.modules(), model.modules(), strict=True):
        own.training = given.training
    with torch.no_grad():
        return use(_OnNumbers(copy, graph, constants, shape))


class _LearningByShape(TorchFunctionMode):
    """Inside, a BatchNorm in train mode is told from its shape: it writes its statistics and gives what it is given.

    PyTorch's own way to tell it takes half the time in which a CNN in train mode is traced.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is functional.batch_norm and kwargs["training"]:
            entering, mean, variance, *_ = args
            if mean is not None and mean.shape == variance.shape == entering.shape[1:2]:
                mean.zero_()
                variance.zero_()
                return torch.empty_like(entering)
        return func(*args, **(kwargs or {}))


class _OnShapes(fx.Interpreter):
    """Runs a graph without numbers; devices that the network names itself are replaced, too."""

    module: nn.Module
    graph: fx.Graph
    before: Before | None = None

    def __init__(
        self, model: nn.Module, graph: fx.Graph, constants: dict[str, torch.Tensor], shape: tuple[int, ...]
    ) -> None:
        super().__init__(model, garbage_collect_values=True, graph=graph)
        self._constants, self._shape, self._batch = constants, shape, 1
        self._meters: list[tuple[Meter, Read]] = []

    def read(self, batch: int, meters: Sequence[Meter]) -> list[Read]:
        """Runs the graph for so many images and returns what each of the meters reads at every operation."""
        self._batch, self._meters = batch, [(meter, {}) for meter in meters]
        with ExitStack() as inside:
            for meter in meters:
                inside.enter_context(meter)
            self.run(*(None for node in self.graph.nodes if node.op == "placeholder"))
        return [reads for _, reads in self._meters]

    def alive(self, batch: int, meters: Sequence[Meter]) -> tuple[Read, list[Read]]:
        """The same with the values of all operations, none freed: so long their memories tell them apart."""
        self.garbage_collect_values = False
        reads = self.read(batch, meters)
        return {node: self.env[node] for node in self.graph.nodes if node in self.env}, reads

    def run_node(self, n: fx.Node) -> Any:
        """Measures what happens in one operation."""
        for meter, _ in self._meters:
            meter.start()
        value = self._replaced(super().run_node(n))
        for meter, reads in self._meters:
            reads[n] = meter.read()
        return value

    def placeholder(self, target: Any, args: Any, kwargs: Any) -> torch.Tensor:
        """The images, made here so that nothing else keeps them alive."""
        return torch.empty(self._batch, *self._shape, device="meta")

    def fetch_attr(self, target: str) -> Any:
        """Weights, and the constants of the trace."""
        constant = self._constants.get(target)
        return super().fetch_attr(target) if constant is None else constant

    def fetch_args_kwargs_from_env(self, n: fx.Node) -> Any:
        """Constants and devices are replaced before an operation sees them."""
        args, kwargs = self._replaced(super().fetch_args_kwargs_from_env(n))
        return (args, kwargs) if self.before is None else self.before(n, args, kwargs)

    def _replaced(self, value: Any) -> Any:
        return map_aggregate(value, on_meta)


class _OnNumbers(_OnShapes):
    """Runs a graph on random images."""

    def placeholder(self, target: Any, args: Any, kwargs: Any) -> torch.Tensor:
        """Gives the same images each time."""
        images = torch.rand(self._batch, *self._shape, generator=torch.Generator().manual_seed(0))
        return images.to(next(self.module.parameters()).device)

    def _replaced(self, value: Any) -> Any:
        return value
