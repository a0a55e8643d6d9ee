"""Repair: a component made to compute what its source computed, in closed form and without labels.

Layer by layer, from the images to the logits, on a few images of the task: each layer is refitted by ridge regression
so that from what the component now gives it, it makes what the source makes before its BatchNorm. Not in the paper.
"""

import operator
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import fx, nn

from ...base.errors import BrickyardError
from ...channels.channels import Layer
from ...channels.coupling import couple
from ...channels.cutting import Kept, channels
from ...channels.operations import Operation
from ...fit import answers
from ...fit.joint import Reader, improve
from ...fit.layer import Goal, refit
from ...images.data import Batch
from ...trace import graph, parts
from ...trace.duplicate import duplicate
from ...trace.plain import is_hooked
from ...trace.replay import Replay
from ..contributions.contribution import norm_scale
from .readers import Reading, reading

Method = Literal["ridge", "bn", "none"]
Classifier = Literal["logits", "answers"]
_JOINTLY = 250  # images, at most, on which two layers are fitted together
_BATCH = 100  # images that answers are asked for at once
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
    classifier_ridge: float = 1e-3,
    mirror: bool = False,
    more: Iterable[Batch] | None = None,
) -> nn.Module:
    """A copy of `component`, which was cut from `source` with the output channels `kept`, that follows it more closely.

    images: float [n, 3, h, w], of the task's classes, without labels, in one batch. ridge minimises for every layer
    ||X W + b - Y||^2 + lambda ||W - W0||^2: X the patches of what the repaired component gives it, W0 the weights that
    were cut out, Y what the source makes before its BatchNorm, b free where there is a bias or a BatchNorm to take it,
    lambda = `ridge` times the mean diagonal of X'X. Where a layer's output is added to another that is already there,
    Y absorbs how far that one is off. Where a ReLU follows, `steps` more regressions spend nothing on how far values
    lie below zero (see `lib.fit.layer.refit`). Where layers, and nothing else, read what a layer makes, `joint` rounds
    change its weights again for what those can make of it (see `lib.fit.joint.improve`). BatchNorms that follow no
    such layer are matched: the mean and the standard deviation of each channel before them are mapped onto those in the
    source. bn does only that, to all of them. none changes nothing. classifier: a linear one is fitted to the source's
    logits like any other layer, or then to its answers (see `lib.fit.answers.refit`) with a lambda of its own,
    `classifier_ridge` times the mean square. mirror: the images are also looked at mirrored, left to right. more:
    batches of images for these answers, as they are and whose labels do not matter, instead of those.

    Raises BrickyardError where the component was not cut from such a source.
    """
    component = duplicate(component).eval()
    if method != "none":
        images = _both(images) if mirror else images
        work = _Repair(source.eval(), component, kept, images, ridge, steps)
        work.run(method, joint)
        if method == "ridge" and classifier == "answers":
            work.answer((x for x, _ in more) if more is not None else images.split(_BATCH), classifier_ridge)
    return component


def _both(images: torch.Tensor) -> torch.Tensor:
    """Images and their mirror images."""
    return torch.cat([images, images.flip(-1)])


@dataclass(frozen=True, eq=False)
class _Fitted:
    """A layer that has been fitted, its operation, and what the component gives it."""

    layer: Layer
    node: fx.Node
    x: torch.Tensor


class _Repair:
    """Source and component side by side, operation by operation."""

    def __init__(
        self, source: nn.Module, component: nn.Module, kept: Kept, images: torch.Tensor, ridge: float, steps: int
    ):
        shape = tuple(images.shape[1:])
        before, after = (graph.trace(model, "the source", shape) for model in (source, component))
        self.format = before.memory_format
        images = images.clone(memory_format=self.format)
        needed = [parts.needed(found) for found in (before, after)]
        self.pairs = list(zip(*needed, strict=False))
        same = len(needed[0]) == len(needed[1])
        if not same or any(a.op != b.op for a, b in self.pairs):
            raise BrickyardError("the component and its source are not of one architecture; dvc repro components")
        self.device, self.ridge, self.steps = images.device, ridge, steps
        self.found, self.coupling = before, couple(before, "the source")
        self.chosen = channels(self.coupling, kept)
        self.layers = {layer.name: layer for layer in self.coupling.layers}
        self.before, self.after = Replay(before, images), Replay(after, images)
        self.modules, self.new = dict(source.named_modules()), dict(component.named_modules())
        self.other = dict(self.pairs)
        self.place = {node: i for i, (node, _) in enumerate(self.pairs)}

    @torch.no_grad()
    def run(self, method: Method, joint: int) -> None:
        """Changes the component."""
        fitted = {layer.norm for layer in self.coupling.layers} if method == "ridge" else set()
        ran = Counter(str(node.target) for node, _ in self.pairs if node.op == "call_module")
        often = {name for name, count in ran.items() if count > 1}  # what they see cannot be matched to one place
        often |= {name for name in ran if is_hooked(self.modules[name])}
        last_use = {source: node for node, _ in self.pairs for source in node.all_input_nodes}
        waiting: list[_Fitted] = []  # for the layers that read them, to be fitted together with these
        for node, twin in self.pairs:
            y = self.before.step(node)
            operation = Operation(node, self.modules)
            layer = self.layers.get(operation.name)
            if layer is not None and layer.alone and method == "ridge":
                self.fit(node, layer, y)
                x = self.after.env[self.other[node.all_input_nodes[0]]]
                waiting += [_Fitted(layer, node, x)] if joint else []
            elif isinstance(operation.module, nn.BatchNorm1d | nn.BatchNorm2d) and operation.name not in fitted | often:
                self.match(node, operation.name)
            self.after.step(twin)
            for first in list(waiting):
                if (found := self.reading(first)) is not None:
                    waiting.remove(first)
                    self.join(first, found, node, joint)
            for source in {*node.all_input_nodes}:
                if last_use[source] is node:
                    del self.before.env[source], self.after.env[self.other[source]]

    def positions(self, row: Sequence[int]) -> list[int]:
        return [i for i, channel in enumerate(row) if channel in self.chosen]

    def fit(self, node: fx.Node, layer: Layer, y: torch.Tensor) -> None:
        """Refits one layer of the component; y: what it makes in the source."""
        x = self.after.env[self.other[node.all_input_nodes[0]]]
        goal = self.goal(node, y[:, (rows := self.positions(layer.outputs))], rows)
        self.put(layer, *refit(x, goal, self.new[layer.name], self.ridge, self.free(layer), self.steps))

    def free(self, layer: Layer) -> bool:
        """Whether a layer has a bias, or a BatchNorm that can take one."""
        module: Any = self.new[layer.name]
        return module.bias is not None or layer.norm is not None

    def put(self, layer: Layer, weight: torch.Tensor, bias: torch.Tensor) -> None:
        """Gives a layer of the component its weight and bias."""
        module: Any = self.new[layer.name]
        module.weight.copy_(weight)
        if module.bias is not None:
            module.bias.copy_(bias)
        elif layer.norm:
            self.new[layer.norm].get_buffer("running_mean").sub_(bias)

    def reading(self, first: _Fitted) -> Reading | None:
        """Who reads what a layer makes; None as long as what it is put together with is not there."""
        after = [node for node, _ in self.pairs[self.place[first.node] + 1 :]]
        return reading(
            first.node,
            after,
            is_layer=lambda node: Operation(node, self.modules).name in self.layers,
            there=lambda node: self.other[node] in self.after.env,
        )

    def join(self, first: _Fitted, found: Reading, now: fx.Node, rounds: int) -> None:
        """Fits a layer once more, for the sake of the layers that read it; now: what ran last."""
        own_layers = [self.layers[Operation(one, self.modules).name] for one in found.readers]
        if not found.readers or not all(layer.alone for layer in own_layers):
            return
        images, twin = slice(_JOINTLY), self.other[first.node]
        way = [self.other[one] for one in found.way]
        readers = []
        for one, own in zip(found.readers, own_layers, strict=True):
            y = self.before.step(one)[images]
            goal = self.goal(one, y[:, (rows := self.positions(own.outputs))], rows, images)
            readers.append(Reader(self.new[own.name], goal, self.free(own)))
        inputs = [self.other[one.all_input_nodes[0]] for one in found.readers]

        def between(z: torch.Tensor) -> list[torch.Tensor]:
            made = self.after.follow(twin, z, way, images)
            return [made[source] for source in inputs]

        module, free = self.new[first.layer.name], self.free(first.layer)
        fitted = improve(first.x[images], module, between, readers, self.ridge, free, self.steps, rounds)
        self.put(first.layer, *fitted)
        z = module(first.x)
        past = [self.other[one] for one in found.way if self.place[one] <= self.place[now]]
        made = self.after.follow(twin, z, past, slice(None)) | {twin: z}
        self.after.env.update({one: made[one] for one in (twin, *past) if one in self.after.env})

    @torch.no_grad()
    def answer(self, batches: Iterable[torch.Tensor], ridge: float) -> None:
        """Fits the classifier of the component, if nothing follows it, to the answers of the source."""
        layer = self.coupling.classifier
        module: Any = self.new[layer.name]
        if not isinstance(module, nn.Linear) or not self.gives_logits(layer):
            return
        given, logits = list[torch.Tensor](), list[torch.Tensor]()
        handle = module.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
        try:
            for x in batches:
                x = x.to(self.device, memory_format=self.format)
                logits.append(self.before.run(x))
                self.after.run(x)
        finally:
            handle.remove()
        x, y, rows = torch.cat(given), torch.cat(logits), self.positions(layer.outputs)
        others = [i for i in range(y.shape[1]) if i not in rows]
        weight, bias = answers.refit(x, y[:, rows], y[:, others], module, ridge)
        module.weight.copy_(weight)
        if module.bias is not None:
            module.bias.copy_(bias)

    def gives_logits(self, layer: Layer) -> bool:
        """Whether what `layer` makes leaves the network as it is."""
        node = self.found.output
        while isinstance(self.modules.get(str(node.target)), nn.Identity | nn.Dropout):
            node = node.all_input_nodes[0]
        return layer.alone and Operation(node, self.modules).name == layer.name

    def goal(self, node: fx.Node, target: torch.Tensor, rows: list[int], images: slice = slice(None)) -> Goal:
        """What a layer should make for some images, from what it makes in the source: [n, outputs that are kept, ...].

        What follows it, a BatchNorm, a tensor that is added and a ReLU, says how: z -> ReLU(scale z + shift + added).
        """
        scale, shift = (torch.full((len(rows),), value, device=target.device) for value in (1.0, 0.0))
        added = None
        while len(node.users) == 1:
            user = next(iter(node.users))
            module: Any = self.modules.get(str(user.target)) if user.op == "call_module" else None
            acts = list(module.children()) if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) else []
            if (
                isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)
                and added is None
                and module.running_mean is not None
            ):
                by = norm_scale(module)[rows]
                offset = 0.0 if module.bias is None else module.bias[rows]
                scale, shift = scale * by, (shift - module.get_buffer("running_mean")[rows]) * by + offset
            elif user.target in _ADDING and added is None and (other := self.ready(user, node)) is not None:
                added = self.after.env[self.other[other]][images]
                error = self.before.env[other][images][:, rows] - added
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
        there = len(others) == 1 and others[0] in self.before.env and self.other[others[0]] in self.after.env
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
