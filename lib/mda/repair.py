"""Repair: a component made to compute what its source computed, in closed form and without labels.

Layer by layer, from the images to the logits, on a few images of the task: each layer is refitted by ridge regression
so that from what the component now gives it, it makes what the source makes before its BatchNorm. Not in the paper.
"""

import copy
import operator
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import fx, nn

from lib import graph
from lib.channelwise import Operation
from lib.coupling import Layer, couple
from lib.errors import BrickyardError
from lib.graph import Trace
from lib.mda.contribution import norm_scale
from lib.mda.cutting import Kept, channels
from lib.ridge import NormalEquations

Method = Literal["ridge", "bn", "none"]
_ROWS = 2**17  # most rows of a regression, images times positions
_CHUNK = 2**24  # most elements of the rows that are unfolded at once
_ADDING = (operator.add, operator.iadd, torch.add)


def repair(
    source: nn.Module, component: nn.Module, kept: Kept, images: torch.Tensor, method: Method, ridge: float = 1e-2
) -> nn.Module:
    """A copy of `component`, which was cut from `source` with the output channels `kept`, that follows it more closely.

    images: float [n, 3, h, w], of the task's classes, without labels, in one batch. ridge minimises for every layer
    ||X W + b - Y||^2 + lambda ||W - W0||^2: X the patches of what the repaired component gives it, W0 the weights that
    were cut out, Y what the source makes before its BatchNorm, b free where there is a bias or a BatchNorm to take it,
    lambda = `ridge` times the mean diagonal of X'X. Where a layer's output is added to another that is already there,
    Y absorbs how far that one is off. BatchNorms that follow no such layer are matched: the mean and the standard
    deviation of each channel before them are mapped onto those in the source. bn does only that, to all of them. none
    changes nothing.

    Raises BrickyardError where the component was not cut from such a source.
    """
    component = copy.deepcopy(component).eval()
    if method != "none":
        _Repair(source.eval(), component, kept, images).run(method, ridge)
    return component


class _Run(fx.Interpreter):
    """A traced network that runs one operation at a time on all images."""

    def __init__(self, found: Trace, images: torch.Tensor):
        super().__init__(found.model, graph=found.graph)
        self.env: dict[fx.Node, Any] = {found.input: images}
        self._constants = found.constants

    def step(self, node: fx.Node) -> Any:
        """What `node` gives; it stays in `env`."""
        if node not in self.env:
            self.env[node] = self.run_node(node)
        return self.env[node]

    def fetch_attr(self, target: str) -> Any:
        """Weights, and the constants of the trace."""
        constant = self._constants.get(target)
        return super().fetch_attr(target) if constant is None else constant


class _Repair:
    """Source and component side by side, operation by operation."""

    def __init__(self, source: nn.Module, component: nn.Module, kept: Kept, images: torch.Tensor):
        shape = tuple(images.shape[1:])
        before, after = (graph.trace(model, "the source", shape) for model in (source, component))
        self.pairs = list(zip(before.graph.nodes, after.graph.nodes, strict=False))
        same = len(before.graph.nodes) == len(after.graph.nodes)
        if not same or any(a.op != b.op for a, b in self.pairs):
            raise BrickyardError("the component and its source are not of one architecture; dvc repro components")
        self.coupling = couple(before, "the source")
        self.chosen = channels(self.coupling, kept)
        self.layers = {layer.name: layer for layer in self.coupling.layers}
        self.before, self.after = _Run(before, images), _Run(after, images)
        self.modules, self.new = dict(source.named_modules()), dict(component.named_modules())
        self.other = dict(self.pairs)

    @torch.no_grad()
    def run(self, method: Method, ridge: float) -> None:
        """Changes the component."""
        fitted = {layer.norm for layer in self.coupling.layers} if method == "ridge" else set()
        last_use = {source: node for node, _ in self.pairs for source in node.all_input_nodes}
        for node, twin in self.pairs:
            if node.op == "output":
                break
            y = self.before.step(node)
            operation = Operation(node, self.modules)
            layer = self.layers.get(operation.name)
            if layer is not None and method == "ridge":
                self.fit(node, layer, y, ridge)
            elif isinstance(operation.module, nn.BatchNorm1d | nn.BatchNorm2d) and operation.name not in fitted:
                self.match(node, operation.name)
            self.after.step(twin)
            for source in {*node.all_input_nodes}:
                if last_use[source] is node:
                    del self.before.env[source], self.after.env[self.other[source]]

    def positions(self, row: Sequence[int]) -> list[int]:
        return [i for i, channel in enumerate(row) if channel in self.chosen]

    def fit(self, node: fx.Node, layer: Layer, y: torch.Tensor, ridge: float) -> None:
        """Refits one layer of the component; y: what it makes in the source."""
        module: Any = self.new[layer.name]
        rows = self.positions(layer.outputs)
        target = y[:, rows]
        error = self.error_after(node, rows)
        if error is not None:
            target = target + error
        norm: Any = self.new[layer.norm] if layer.norm else None
        x = self.after.env[self.other[node.all_input_nodes[0]]]
        free = module.bias is not None or norm is not None
        weight, bias = _refit(x, target, module, ridge, free)
        module.weight.copy_(weight)
        if module.bias is not None:
            module.bias.copy_(bias)
        elif norm is not None:
            norm.running_mean.sub_(bias)

    def error_after(self, node: fx.Node, rows: list[int]) -> torch.Tensor | None:
        """How far off, before the layer's BatchNorm, that is in the component to which the layer's output is added."""
        scale = torch.ones(len(rows), device=self.before.env[node].device)
        while len(node.users) == 1:
            user = next(iter(node.users))
            module = self.modules.get(str(user.target)) if user.op == "call_module" else None
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) and _is_affine(module):
                scale = scale * norm_scale(module)[rows]
            elif not isinstance(module, nn.Identity | nn.Dropout | nn.Dropout2d):
                break
            node = user
        user = next(iter(node.users), None)
        if user is None or len(node.users) != 1 or user.target not in _ADDING or len(user.all_input_nodes) != 2:
            return None
        other = next(source for source in user.all_input_nodes if source is not node)
        if other not in self.before.env or self.before.env[other].ndim < 2:
            return None
        error = self.before.env[other][:, rows] - self.after.env[self.other[other]]
        return torch.where(_along(scale.abs() > 1e-3, error), error / _along(scale, error), 0.0)

    def match(self, node: fx.Node, name: str) -> None:
        """Makes a BatchNorm give the mean and standard deviation of each channel that it gives in the source."""
        norm: Any = self.new[name]
        if norm.running_mean is None:
            return
        x = self.after.env[self.other[node.all_input_nodes[0]]]
        rows = self.positions(next(row for row in self.coupling.axes[f"{name}.running_mean"] if row is not None))
        wanted = self.before.env[node.all_input_nodes[0]][:, rows]
        (mean, deviation), (new_mean, new_deviation) = _moments(wanted), _moments(x)
        ratio = torch.where((deviation > 0) & (new_deviation > 0), new_deviation / deviation, 1.0)
        old = (norm.running_var + norm.eps).sqrt()
        norm.running_mean.copy_(new_mean - (mean - norm.running_mean) * ratio)
        norm.running_var.copy_(((old * ratio).square() - norm.eps).clamp_min(0))


def _is_affine(norm: nn.Module) -> bool:
    return all(isinstance(child, nn.Identity) for child in norm.children())


def _along(vector: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return vector.view(1, -1, *[1] * (like.ndim - 2))


def _moments(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation of every channel of [n, C, ...]."""
    deviation, mean = torch.std_mean(x.double(), [0, *range(2, x.ndim)], correction=0)
    return mean.to(x.dtype), deviation.to(x.dtype)


def _refit(
    x: torch.Tensor, target: torch.Tensor, module: Any, ridge: float, free: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """The weight of `module` and the bias [O], zeros unless `free`, that bring it from x to the target."""
    groups = getattr(module, "groups", 1)
    unfold = _patches(module, x)
    start = module.weight.detach().flatten(1)
    weights, biases = [], []
    wide, deep = len(start) // groups, x.shape[1] // groups
    for g in range(groups):
        own = slice(g * wide, (g + 1) * wide)
        initial = start[own].T
        equations = NormalEquations(*initial.shape)
        for some, goal in zip(*_chunks(x[:, g * deep : (g + 1) * deep], target[:, own], len(initial)), strict=True):
            patches, goals = unfold(some), _rows(goal)
            patches, goals = _thinned(patches, len(x)), _thinned(goals, len(x))
            equations.add(patches.cpu(), (goals - patches @ initial).cpu())
        fit = equations.solve(ridge, intercept=free)
        weights.append((initial + fit.weight.to(initial.device)).T)
        biases.append(fit.bias.to(initial.device))
    return torch.cat(weights).view_as(module.weight), torch.cat(biases)


def _chunks(x: torch.Tensor, target: torch.Tensor, features: int) -> tuple[Sequence[torch.Tensor], ...]:
    positions = target[0, 0].numel()
    step = max(1, _CHUNK // (features * positions))
    return x.split(step), target.split(step)


def _rows(y: torch.Tensor) -> torch.Tensor:
    """[n, C, ...] -> [n, positions, C]"""
    return y.flatten(2).transpose(1, 2) if y.ndim > 2 else y[:, None]


def _thinned(rows: torch.Tensor, images: int) -> torch.Tensor:
    """[n, positions, C] -> [rows, C]: the same positions, drawn at random, of each of so many images."""
    positions = rows.shape[1]
    count = max(1, min(positions, _ROWS // images))
    if count < positions:
        drawn = torch.randperm(positions, generator=torch.Generator().manual_seed(0))[:count].sort().values
        rows = rows[:, drawn.to(rows.device)]
    return rows.flatten(0, 1)


def _patches(module: Any, x: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
    """What brings an input of `module` to rows [n, positions, features], in the order of the weight's."""
    if isinstance(module, nn.Linear):
        return lambda some: some[:, None]
    mode = "constant" if module.padding_mode == "zeros" else module.padding_mode

    def unfold(some: torch.Tensor) -> torch.Tensor:
        padded = F.pad(some, module._reversed_padding_repeated_twice, mode=mode)
        return F.unfold(padded, module.kernel_size, module.dilation, 0, module.stride).transpose(1, 2)

    return unfold
