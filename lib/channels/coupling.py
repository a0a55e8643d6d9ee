"""Which channels of a network stand and fall together, found by following every channel through the traced graph.

Outputs of layers that meet in an addition or a product are one channel, a depthwise filter is one with its input, all
inputs and outputs of one group of a grouped convolution are one, and so are the channels that a layer or norm meets at
the same place when it is used again; concatenation, division into pieces, flattening and padding move channels.
"""

import operator
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any, Literal

import torch
from torch import fx, nn
from torch.nn import functional as F

from ..base.errors import BrickyardError
from ..trace import parts
from ..trace.effects import after
from ..trace.graph import Trace
from ..trace.plain import is_hooked
from ..trace.tracer import assign
from . import moves
from .channels import Coupling, Layer, Size
from .following import Following
from .operations import DIVIDING, ELEMENTWISE, RESHAPING, TURNING, Operation


def couple(found: Trace, name: str) -> Coupling:
    """The coupling of a traced network's channels.

    Raises BrickyardError naming the network and the module where channels cannot be followed.
    """
    return _Following(found, name).result()


class _Following(Following):
    """Every operation from the images to the logits, followed in turn."""

    def __init__(self, found: Trace, name: str):
        super().__init__(found, name)
        self.layers: list[tuple[fx.Node, Layer]] = []
        self.given: dict[str, list[int]] = {}
        self.axes: dict[str, dict[int, list[int]]] = {}
        for node in parts.between(found, found.input, found.output):
            self.check_state(node)
            if node in found.content:
                self.labels[node] = self.follow(node)

    def result(self) -> Coupling:
        """What was found, channels numbered in the order of their appearance."""
        shared = self.tie()
        logits = self.labels[self.found.output]
        classifier = self.layers[-1][1] if self.layers else None
        apart = len(self.roots(logits)) == len(logits) and len(self.shape(self.found.output)) == 2
        if classifier is None or list(classifier.outputs) != logits or not apart:
            raise BrickyardError(
                f"{self.name}: has no classifier: its last convolution or linear layer does not give the logits"
            )
        made = {self.root(label) for _, layer in self.layers for label in layer.outputs}
        fixed = {self.root(label) for label in self.fixed} | ({*map(self.root, range(len(self.parents)))} - made)
        if made <= fixed | self.roots(logits):
            raise BrickyardError(f"{self.name}: has no layer before its classifier, so nothing can be taken apart")
        numbers: dict[int, int] = {}
        for label in range(len(self.parents)):
            numbers.setdefault(self.root(label), len(numbers))

        def numbered(labels: Sequence[int]) -> tuple[int, ...]:
            return tuple(numbers[self.root(label)] for label in labels)

        return Coupling(
            count=len(numbers),
            fixed=frozenset(numbers[root] for root in fixed),
            layers=tuple(
                Layer(
                    layer.name,
                    layer.kind,
                    numbered(layer.inputs),
                    numbered(layer.outputs),
                    layer.positions,
                    layer.groups,
                    self.norm_after(node) if layer.alone and layer.name not in shared else None,
                    layer.macs,
                    layer.alone and layer.name not in shared,
                )
                for node, layer in self.layers
            ),
            axes={
                path: tuple(numbered(axes[axis]) if axis in axes else None for axis in range(self.parameter(path).ndim))
                for path, axes in self.axes.items()
            },
            sizes=tuple(Size(node, at, numbered(labels)) for node, at, labels in self.sizes),
            unused=self.unused(),
            memory_format=self.found.memory_format,
        )

    def follow(self, node: fx.Node) -> list[int]:
        """The labels of what `node` gives."""
        operation = Operation(node, self.modules)
        if operation.function in DIVIDING:
            return moves.divide(self, node)
        if not isinstance(self.found.values[node][0], torch.Tensor):
            self.refuse(node, "it gives several tensors")
        labels = self.moved(node, operation)
        shape = self.shape(node)
        if node in self.grids or (self.grids.keys() & {*self.sources(node)} and len(shape) == 5):
            self.grids.setdefault(node, self.grids.get(self.sources(node)[0], []))
        elif not 2 <= len(shape) <= 4 or shape[1] != len(labels):
            self.refuse(node, f"it turns {list(self.shape(self.source(node))[1:])} into {list(shape[1:])}")
        return labels

    def moved(self, node: fx.Node, operation: Operation) -> list[int]:
        """The labels of what `node`, which gives one tensor, makes of those that it is given."""
        function = operation.function
        if node.target is after:
            return self.labels[self.sources(node)[0]]
        if operation.is_layer:
            return self.layer(node, operation)
        if operation.is_norm:
            return self.norm(node, operation.module)
        if function in ELEMENTWISE or (function is assign and (operation.slices_space() or self.is_masked(node))):
            return self.elementwise(node)
        if function is operator.getitem and moves.is_piece(self, node):
            return moves.piece(self, node)
        if function in TURNING and self.source(node) in self.grids:
            return moves.turn(self, node)
        if function in _MOVES:
            return _MOVES[function](self, node)
        if operation.keeps_channels(len(self.shape(self.source(node)))):
            return self.labels[self.source(node)]
        self.refuse(node, "it is not known to leave channels apart")

    def is_masked(self, node: fx.Node) -> bool:
        """Whether numbers are put where a mask says so, channel by channel."""
        _, index, value = node.args
        if not isinstance(index, fx.Node) or isinstance(value, fx.Node):
            return False
        return index in self.labels and self.shape(index) == self.shape(node)

    def check_state(self, node: fx.Node) -> None:
        if any(one.op == "get_attr" for one in self.found.changes.get(node, ())):
            self.refuse(node, "it changes a weight or buffer in eval mode")

    def again(self, node: fx.Node, name: str) -> list[int]:
        """A layer that is used once more: what it meets at one place is one channel."""
        given = self.labels[self.source(node)]
        self.join(self.given[name], given)
        at = next(i for i, (_, layer) in enumerate(self.layers) if layer.name == name)
        first, layer = self.layers[at]
        self.layers[at] = (first, replace(layer, alone=False, macs=layer.macs + self.found.macs[node]))
        return list(layer.outputs)

    def layer(self, node: fx.Node, operation: Operation) -> list[int]:
        module, name = operation.module, operation.name
        if name in self.given:
            return self.again(node, name)
        given = self.given[name] = self.labels[self.source(node)]
        if isinstance(module, nn.Linear) and len(self.shape(node)) != 2:
            self.refuse(node, f"a linear layer on a tensor of {len(self.shape(node))} dimensions")
        outputs = self.new(self.shape(node)[1])
        inputs, positions, groups = given, 1, 1
        axes = {0: outputs, 1: given}
        if isinstance(module, nn.Conv2d) and module.groups > 1:
            groups = module.groups
            wide, deep = len(outputs) // groups, len(given) // groups
            for g in range(groups):
                together = [*given[g * deep : (g + 1) * deep], *outputs[g * wide : (g + 1) * wide]]
                self.join(together[1:], together[:-1])
            axes = {0: outputs}
        elif isinstance(module, nn.Linear):
            runs = [(label, len(list(run))) for label, run in groupby(given)]
            if len({length for _, length in runs}) != 1:
                self.refuse(node, "its input holds flattened maps of different sizes")
            inputs, positions = [label for label, _ in runs], runs[0][1]
        self.axes[f"{name}.weight"] = axes
        if module.bias is not None:
            self.axes[f"{name}.bias"] = {0: outputs}
        kind: Literal["conv", "linear"] = "conv" if isinstance(module, nn.Conv2d) else "linear"
        macs = self.found.macs[node]
        alone = not is_hooked(module)
        layer = Layer(name, kind, tuple(inputs), tuple(outputs), positions, groups, macs=macs, alone=alone)
        self.layers.append((node, layer))
        return outputs

    def tie(self) -> set[str]:
        """Weights that are one keep the same rows everywhere; returns the modules that share some."""
        homes: dict[int, str] = {}
        shared: set[str] = set()
        for path, axes in self.axes.items():
            owner, _, name = path.rpartition(".")
            weight = self.modules[owner]._parameters.get(name)
            home = path if weight is None else homes.setdefault(id(weight), path)
            if home != path:
                shared |= {home.rpartition(".")[0], path.rpartition(".")[0]}
                for axis in axes.keys() & self.axes[home].keys():
                    self.join(axes[axis], self.axes[home][axis])
        return shared

    def unused(self) -> frozenset[str]:
        """Modules and weights that the logits do not depend on."""
        used: set[int] = set()
        for node in parts.needed(self.found):
            if node.op == "call_module":
                used |= {id(parameter) for parameter in self.modules[str(node.target)].parameters()}
            elif node.op == "get_attr" and str(node.target) not in self.found.constants:
                used.add(id(self.parameter(str(node.target))))
        idle = {
            f"{path}.{name}" if path else name
            for path, module in self.modules.items()
            for name, parameter in module.named_parameters(recurse=False)
            if id(parameter) not in used
        }
        return frozenset(
            idle
            | {path for path, module in self.modules.items() if all(id(p) not in used for p in module.parameters())}
        )

    def norm(self, node: fx.Node, module: Any) -> list[int]:
        labels = self.labels[self.source(node)]
        if isinstance(module, nn.GroupNorm):
            wide = len(labels) // module.num_groups
            for g in range(module.num_groups):
                together = labels[g * wide : (g + 1) * wide]
                self.join(together[1:], together[:-1])
        for key, tensor in (*module._parameters.items(), *module._buffers.items()):
            if tensor is not None and tensor.ndim == 1 and len(tensor) == len(labels):
                axes = self.axes.setdefault(f"{node.target}.{key}", {0: labels})
                self.join(axes[0], labels)
        return labels

    def elementwise(self, node: fx.Node) -> list[int]:
        sources = self.sources(node)
        dimensions = len(self.shape(node))
        wide = [s for s in sources if len(self.shape(s)) == dimensions and self.shape(s)[1] == self.shape(node)[1]]
        if not wide:
            self.refuse(node, "channels are broadcast in it")
        labels = self.labels[wide[0]]
        for source in sources:
            if source in wide:
                self.join(labels, self.labels[source])
            elif len(self.shape(source)) == dimensions and self.shape(source)[1] == 1:
                self.fixed += self.labels[source]
            else:
                self.refuse(node, "channels are broadcast in it")
        for other in node.all_input_nodes:
            if other not in self.labels and isinstance(self.found.values[other][0], torch.Tensor):
                self.constant(node, other, labels, dimensions)
        return labels

    def constant(self, node: fx.Node, other: fx.Node, labels: list[int], dimensions: int) -> None:
        """A weight that is added to or multiplied with every image: its rows along the channels follow them."""
        shape = self.shape(other)
        axis = len(shape) - dimensions + 1
        if axis < 0 or shape[axis] == 1:
            return
        if other.op != "get_attr" or str(other.target) in self.found.constants:
            self.refuse(node, "channels meet a tensor that is no weight")
        axes = self.axes.setdefault(str(other.target), {axis: labels})
        if list(axes) != [axis] or len(axes[axis]) != len(labels):
            self.refuse(node, "channels meet a weight in two ways")
        self.join(axes[axis], labels)

    def norm_after(self, node: fx.Node) -> str | None:
        """The BatchNorm that is the only one to read what a layer gives."""
        users = [user for user in node.users if user in self.labels]
        reads = len(users) == 1 and users[0].op == "call_module"
        following = self.modules[str(users[0].target)] if reads else None
        normed = isinstance(following, nn.BatchNorm1d | nn.BatchNorm2d) and following.running_mean is not None
        if following is None or not normed or is_hooked(following):
            return None
        once = sum(node.target == users[0].target for node in self.labels) == 1
        return str(users[0].target) if once else None


_MOVES: dict[Any, Callable[[Following, fx.Node], list[int]]] = {
    **dict.fromkeys((torch.cat, torch.concat, torch.concatenate), moves.concatenate),
    **dict.fromkeys(RESHAPING, moves.reshape),
    **dict.fromkeys((F.glu, nn.GLU), moves.gate),
    **dict.fromkeys((F.pixel_shuffle, nn.PixelShuffle), moves.unfold),
    **dict.fromkeys((F.channel_shuffle, nn.ChannelShuffle), moves.shuffle),
    **dict.fromkeys((getattr(torch.Tensor, f"new_{name}") for name in ("empty", "full", "ones", "zeros")), moves.fresh),
    F.pad: moves.pad,
}
