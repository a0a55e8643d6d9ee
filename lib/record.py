"""What the operations of a traced network give and cost, found by running them on shapes instead of numbers."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import fx, nn
from torch.fx.node import map_aggregate
from torch.utils.flop_counter import FlopCounterMode

from lib import effects
from lib.cost import BATCHES, PeakMemory, macs_of_one, without_data
from lib.duplicate import duplicate
from lib.tracer import on_meta

T = TypeVar("T")


@dataclass(frozen=True)
class Step:
    """One operation. values: what it gives for both BATCHES, shapes only; macs: for one image; memory: bytes of
    activations alive while it runs on one image, in eval mode (else 0).
    """

    values: tuple[Any, Any]
    macs: int
    memory: int


def record(
    model: nn.Module, graph: fx.Graph, constants: dict[str, torch.Tensor], shape: tuple[int, ...]
) -> dict[fx.Node, Step]:
    """Runs `graph`, the operations of `model` in its present mode, for images of `shape` [3, h, w].

    Nothing is computed, unless control flow depends on the pixels: then a copy of the model runs on random images.
    """
    return _run(model, graph, constants, shape, _steps)


def threaded(
    model: nn.Module, graph: fx.Graph, constants: dict[str, torch.Tensor], shape: tuple[int, ...]
) -> dict[fx.Node, frozenset[fx.Node]]:
    """Runs `graph` likewise and makes it tell what its operations change in place (see `lib.effects.thread`)."""

    def thread(runs: "_OnShapes") -> dict[fx.Node, frozenset[fx.Node]]:
        values, written = runs.writes()
        changed = effects.thread(graph, values, effects.changes(values, written), set(constants))
        effects.hold_gradients(graph, values)
        return changed

    return _run(model, graph, constants, shape, thread)


def _run(
    model: nn.Module,
    graph: fx.Graph,
    constants: dict[str, torch.Tensor],
    shape: tuple[int, ...],
    use: Callable[["_OnShapes"], T],
) -> T:
    try:
        with without_data(model):
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


def _steps(runs: "_OnShapes") -> dict[fx.Node, Step]:
    (first, flops), (second, more_flops) = (runs.values(batch) for batch in BATCHES)
    memory = {} if runs.module.training else runs.memory()
    return {
        node: Step((first[node], second[node]), macs_of_one(flops[node], more_flops[node]), memory.get(node, 0))
        for node in runs.graph.nodes
    }


class _OnShapes(fx.Interpreter):
    """Runs a graph without numbers; devices that the network names itself are replaced, too."""

    module: nn.Module
    graph: fx.Graph

    def __init__(
        self, model: nn.Module, graph: fx.Graph, constants: dict[str, torch.Tensor], shape: tuple[int, ...]
    ) -> None:
        super().__init__(model, garbage_collect_values=True, graph=graph)
        self._constants, self._shape, self._batch = constants, shape, 1
        self._watch: FlopCounterMode | PeakMemory | effects.Writes
        self._seen: dict[fx.Node, Any] = {}
        self._counted: dict[fx.Node, Any] = {}

    def values(self, batch: int) -> tuple[dict[fx.Node, Any], dict[fx.Node, int]]:
        """The value of every operation, shapes only, and its FLOPs."""
        self._seen = {}
        counted = self._run(batch, FlopCounterMode(display=False))
        return self._seen, counted

    def memory(self) -> dict[fx.Node, int]:
        """Most bytes alive while each operation runs, for one image."""
        return self._run(1, PeakMemory(self.module))

    def writes(self) -> tuple[dict[fx.Node, Any], dict[fx.Node, set[int]]]:
        """The value of every operation, all alive, and the memory that each has written into."""
        self.garbage_collect_values = False
        written = self._run(BATCHES[0], effects.Writes())
        return {node: self.env[node] for node in self.graph.nodes if node in self.env}, written

    def _run(self, batch: int, watch: FlopCounterMode | PeakMemory | effects.Writes) -> dict[fx.Node, Any]:
        self._batch, self._watch, self._counted = batch, watch, {}
        with watch:
            self.run(*(None for node in self.graph.nodes if node.op == "placeholder"))
        return self._counted

    def run_node(self, n: fx.Node) -> Any:
        """Counts what happens in one operation."""
        if isinstance(self._watch, PeakMemory):
            self._watch.start()
            value = self._replaced(super().run_node(n))
            self._counted[n] = self._watch.peak
            return value
        if isinstance(self._watch, effects.Writes):
            self._watch.written = set()
            value = self._replaced(super().run_node(n))
            self._counted[n] = self._watch.written
            return value
        before = self._watch.get_total_flops()
        value = self._replaced(super().run_node(n))
        self._counted[n] = self._watch.get_total_flops() - before
        self._seen[n] = map_aggregate(value, on_meta)
        return value

    def placeholder(self, target: Any, args: Any, kwargs: Any) -> torch.Tensor:
        """The images, made here so that nothing else keeps them alive."""
        return torch.zeros(self._batch, *self._shape, device="meta")

    def fetch_attr(self, target: str) -> Any:
        """Weights, and the constants of the trace."""
        constant = self._constants.get(target)
        return super().fetch_attr(target) if constant is None else constant

    def fetch_args_kwargs_from_env(self, n: fx.Node) -> Any:
        """Constants and devices are replaced before an operation sees them."""
        return self._replaced(super().fetch_args_kwargs_from_env(n))

    def _replaced(self, value: Any) -> Any:
        return map_aggregate(value, on_meta)


class _OnNumbers(_OnShapes):
    """Runs a graph on random images."""

    def placeholder(self, target: Any, args: Any, kwargs: Any) -> torch.Tensor:
        """The same ones each time."""
        images = torch.rand(self._batch, *self._shape, generator=torch.Generator().manual_seed(0))
        return images.to(next(self.module.parameters()).device)

    def _replaced(self, value: Any) -> Any:
        return value
