"""Repair: a component made to compute what its source computed, in closed form and without labels.

Layer by layer, from the images to the logits, on a few images of the task: each layer is refitted by ridge regression
so that from what the component now gives it, it makes what the source makes before its BatchNorm. Not in the paper.
"""

import copy
import operator
from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import fx, nn

from lib import graph
from lib.channels import Layer
from lib.channelwise import Operation
from lib.coupling import couple
from lib.errors import BrickyardError
from lib.graph import Trace
from lib.mda import head
from lib.mda.contribution import norm_scale
from lib.mda.cutting import Kept, channels
from lib.mda.joint import improve
from lib.mda.refit import Goal, refit

Method = Literal["ridge", "bn", "none"]
Classifier = Literal["logits", "answers"]
_JOINTLY = 250  # images, at most, on which two layers are fitted together
_FAINT = 1e-3  # a BatchNorm's scale below which it is not divided by
_ADDING = (operator.add, operator.iadd, torch.add)
_RECTIFYING = (F.relu, F.relu_, torch.relu, torch.relu_, "relu", "relu_")


def repair(
    source: nn.Module,
    component: nn.Module,
    kept: Kept,
    images: torch.Tensor,
    method: Method,
    ridge: float = 1e-2,
    steps: int = 4,
    joint: int = 2,
    classifier: Classifier = "answers",
    mirror: bool = False,
) -> nn.Module:
    """A copy of `component`, which was cut from `source` with the output channels `kept`, that follows it more closely.

    images: float [n, 3, h, w], of the task's classes, without labels, in one batch. ridge minimises for every layer
    ||X W + b - Y||^2 + lambda ||W - W0||^2: X the patches of what the repaired component gives it, W0 the weights that
    were cut out, Y what the source makes before its BatchNorm, b free where there is a bias or a BatchNorm to take it,
    lambda = `ridge` times the mean diagonal of X'X. Where a layer's output is added to another that is already there,
    Y absorbs how far that one is off. Where a ReLU follows, `steps` more regressions spend nothing on how far values
    lie below zero (see `lib.mda.refit.refit`). Where one other layer alone reads what a layer makes, `joint` rounds
    change its weights again for what that one can make of it (see `lib.mda.joint.improve`). BatchNorms that follow no
    such layer are matched: the mean and the standard deviation of each channel before them are mapped onto those in the
    source. bn does only that, to all of them. none changes nothing. classifier: a linear one is fitted to the source's
    logits like any other layer, or then to its answers (see `lib.mda.head.refit`). mirror: the images are also looked
    at mirrored, left to right.

    Raises BrickyardError where the component was not cut from such a source.
    """
    component = copy.deepcopy(component).eval()
    if method != "none":
        images = torch.cat([images, images.flip(-1)]) if mirror else images
        _Repair(source.eval(), component, kept, images).run(method, ridge, steps, joint, classifier)
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
        self.found, self.coupling = before, couple(before, "the source")
        self.chosen = channels(self.coupling, kept)
        self.layers = {layer.name: layer for layer in self.coupling.layers}
        self.before, self.after = _Run(before, images), _Run(after, images)
        self.modules, self.new = dict(source.named_modules()), dict(component.named_modules())
        self.other = dict(self.pairs)

    @torch.no_grad()
    def run(self, method: Method, ridge: float, steps: int, joint: int, classifier: Classifier) -> None:
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
                self.fit(node, layer, y, ridge, steps)
                if joint:
                    self.join(node, layer, ridge, steps, joint)
                if layer is self.coupling.classifier and classifier == "answers":
                    self.answer(node, layer, y, ridge)
            elif isinstance(operation.module, nn.BatchNorm1d | nn.BatchNorm2d) and operation.name not in fitted:
                self.match(node, operation.name)
            self.after.step(twin)
            for source in {*node.all_input_nodes}:
                if last_use[source] is node:
                    del self.before.env[source], self.after.env[self.other[source]]

    def positions(self, row: Sequence[int]) -> list[int]:
        return [i for i, channel in enumerate(row) if channel in self.chosen]

    def fit(self, node: fx.Node, layer: Layer, y: torch.Tensor, ridge: float, steps: int) -> None:
        """Refits one layer of the component; y: what it makes in the source."""
        module: Any = self.new[layer.name]
        norm: Any = self.new[layer.norm] if layer.norm else None
        x = self.after.env[self.other[node.all_input_nodes[0]]]
        goal = self.goal(node, y[:, (rows := self.positions(layer.outputs))], rows)
        weight, bias = refit(x, goal, module, ridge, module.bias is not None or norm is not None, steps)
        module.weight.copy_(weight)
        if module.bias is not None:
            module.bias.copy_(bias)
        elif norm is not None:
            norm.running_mean.sub_(bias)

    def join(self, node: fx.Node, layer: Layer, ridge: float, steps: int, rounds: int) -> None:
        """Fits a layer once more, for the sake of the layer that alone reads it, if there is one."""
        way, reader = self.read(node)
        if reader is None:
            return
        after = self.layers[Operation(reader, self.modules).name]
        module: Any = self.new[layer.name]
        norm: Any = self.new[layer.norm] if layer.norm else None
        images = slice(_JOINTLY)
        for one in (*way, reader):
            self.before.step(one)
        goal = self.goal(reader, self.before.env[reader][:, (rows := self.positions(after.outputs))], rows).of(images)
        free = tuple(self.new[own.name].bias is not None or own.norm is not None for own in (layer, after))
        x = self.after.env[self.other[node.all_input_nodes[0]]][images]
        weight, bias = improve(
            x,
            module,
            lambda z: self.through(node, way, z.clone()),
            self.new[after.name],
            goal,
            ridge,
            free,
            steps,
            rounds,
        )
        module.weight.copy_(weight)
        if module.bias is not None:
            module.bias.copy_(bias)
        elif norm is not None:
            norm.running_mean.sub_(bias)

    def read(self, node: fx.Node) -> tuple[list[fx.Node], fx.Node | None]:
        """What happens to a layer's output until the one layer that alone reads it, and that layer's node."""
        way: list[fx.Node] = []
        while len(node.users) == 1:
            node = next(iter(node.users))
            if Operation(node, self.modules).name in self.layers:
                return way, node
            if len(node.all_input_nodes) > 1 or node.op == "output":
                break
            way.append(node)
        return way, None

    def through(self, node: fx.Node, way: Sequence[fx.Node], z: torch.Tensor) -> torch.Tensor:
        """What becomes of z, a layer's output, in the component."""
        env = self.after.env
        try:
            for one in way:
                env[self.other[node]] = z
                z = self.after.run_node(self.other[one])
                del env[self.other[node]]
                node = one
        finally:
            env.pop(self.other[node], None)
        return z

    def answer(self, node: fx.Node, layer: Layer, y: torch.Tensor, ridge: float) -> None:
        """Fits the classifier of the component to the answers of the source, whose logits are y."""
        module: Any = self.new[layer.name]
        if isinstance(module, nn.Linear):
            x, rows = self.after.env[self.other[node.all_input_nodes[0]]], self.positions(layer.outputs)
            others = [i for i in range(y.shape[1]) if i not in rows]
            weight, bias = head.refit(x, y[:, rows], y[:, others], module, ridge)
            module.weight.copy_(weight)
            if module.bias is not None:
                module.bias.copy_(bias)

    def goal(self, node: fx.Node, target: torch.Tensor, rows: list[int]) -> Goal:
        """What a layer should make, from what it makes in the source: [n, outputs that are kept, ...].

        What follows it, a BatchNorm, a tensor that is added and a ReLU, says how: z -> ReLU(scale z + shift + added).
        """
        scale, shift = (torch.full((len(rows),), value, device=target.device) for value in (1.0, 0.0))
        added = None
        while len(node.users) == 1:
            user = next(iter(node.users))
            module: Any = self.modules.get(str(user.target)) if user.op == "call_module" else None
            acts = list(module.children()) if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) else []
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) and added is None:
                by = norm_scale(module)[rows]
                offset = 0.0 if module.bias is None else module.bias[rows]
                scale, shift = scale * by, (shift - module.get_buffer("running_mean")[rows]) * by + offset
            elif user.target in _ADDING and added is None and (other := self.ready(user, node)) is not None:
                added = self.after.env[self.other[other]]
                error = self.before.env[other][:, rows] - added
                target = target + torch.where(_along(scale.abs() > _FAINT, error), error / _along(scale, error), 0.0)
            elif isinstance(module, nn.ReLU) or (module is None and user.target in _RECTIFYING):
                acts = [nn.ReLU()]
            elif not isinstance(module, nn.Identity | nn.Dropout | nn.Dropout2d):
                break
            acts = [act for act in acts if not isinstance(act, nn.Identity)]
            if any(not isinstance(act, nn.ReLU) for act in acts):
                break
            if acts:
                return _rectified(target, scale, shift, added)
            node = user
        return Goal(target)

    def ready(self, user: fx.Node, node: fx.Node) -> fx.Node | None:
        """The other of two tensors that meet in `user`, if it is there."""
        others = [source for source in user.all_input_nodes if source is not node]
        there = len(others) == 1 and others[0] in self.before.env
        return others[0] if there and self.found.tensor(others[0]).shape == self.found.tensor(node).shape else None

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


def _rectified(target: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor, added: torch.Tensor | None) -> Goal:
    """The goal z = target where ReLU(scale z + shift + added) follows."""
    level = _along(shift, target) + (0.0 if added is None else added)
    clear = _along(scale.abs() > _FAINT, target)
    floor = torch.where(clear, -level / _along(scale, target), -torch.inf).expand_as(target)
    return Goal(target, floor, torch.where((scale < 0) & (scale.abs() > _FAINT), -1.0, 1.0))


def _along(vector: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return vector.view(1, -1, *[1] * (like.ndim - 2))


def _moments(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation of every channel of [n, C, ...]."""
    deviation, mean = torch.std_mean(x.double(), [0, *range(2, x.ndim)], correction=0)
    return mean.to(x.dtype), deviation.to(x.dtype)
