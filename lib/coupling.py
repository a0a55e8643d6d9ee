"""Which channels of a network stand and fall together, found by following every channel through the traced graph.

Outputs of layers that meet in an addition or a product are one channel, a depthwise filter is one with its input, all
inputs and outputs of one group of a grouped convolution are one, and so are the channels that a layer or norm meets at
the same place when it is used again; concatenation, division into pieces, flattening and padding move channels.
"""

import operator
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate, groupby
from math import prod
from typing import Any, Literal, NoReturn, cast

import torch
from torch import fx, nn
from torch.nn import functional as F

from lib import graph
from lib.channels import Coupling, Layer, Size
from lib.channelwise import DIVIDING, ELEMENTWISE, RESHAPING, Operation
from lib.effects import after
from lib.errors import BrickyardError
from lib.graph import Trace
from lib.plain import is_hooked
from lib.tracer import assign


def couple(found: Trace, name: str) -> Coupling:
    """The coupling of a traced network's channels.

    Raises BrickyardError naming the network and the module where channels cannot be followed.
    """
    return _Following(found, name).result()


class _Following:
    """Labels every value's second dimension with channels, operation by operation; labels are joined as they meet."""

    def __init__(self, found: Trace, name: str):
        self.found, self.name = found, name
        self.modules = dict(found.model.named_modules())
        self.parents: list[int] = []
        self.labels: dict[fx.Node, list[int]] = {found.input: self.new(found.tensor(found.input).shape[1])}
        self.fixed = list(self.labels[found.input])
        self.layers: list[tuple[fx.Node, Layer]] = []
        self.given: dict[str, list[int]] = {}
        self.homes: dict[int, str] = {}
        self.pieces: dict[fx.Node, list[list[int]]] = {}
        self.axes: dict[str, dict[int, list[int]]] = {}
        self.sizes: list[tuple[str, tuple[int | str, ...], list[int]]] = []
        for node in graph.between(found, found.input, found.output):
            self.check_state(node)
            if node in found.content:
                self.labels[node] = self.follow(node)

    def result(self) -> Coupling:
        """What was found, channels numbered in the order of their appearance."""
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
                    self.norm_after(node) if layer.alone else None,
                    layer.macs,
                    layer.alone,
                )
                for node, layer in self.layers
            ),
            axes={
                path: tuple(numbered(axes[axis]) if axis in axes else None for axis in range(self.parameter(path).ndim))
                for path, axes in self.axes.items()
            },
            sizes=tuple(Size(node, at, numbered(labels)) for node, at, labels in self.sizes),
        )

    def new(self, count: int) -> list[int]:
        """Labels that are not yet joined with any."""
        self.parents += range(len(self.parents), len(self.parents) + count)
        return list(range(len(self.parents) - count, len(self.parents)))

    def root(self, label: int) -> int:
        while self.parents[label] != label:
            self.parents[label] = self.parents[self.parents[label]]
            label = self.parents[label]
        return label

    def roots(self, labels: Sequence[int]) -> set[int]:
        return {self.root(label) for label in labels}

    def join(self, a: Sequence[int], b: Sequence[int]) -> None:
        for one, other in zip(a, b, strict=True):
            one, other = self.root(one), self.root(other)
            self.parents[max(one, other)] = min(one, other)

    def parameter(self, path: str) -> torch.Tensor:
        owner, _, last = path.rpartition(".")
        return getattr(self.modules[owner], last)

    def shape(self, node: fx.Node) -> tuple[int, ...]:
        return tuple(self.found.tensor(node).shape)

    def follow(self, node: fx.Node) -> list[int]:
        """The labels of what `node` gives."""
        operation = Operation(node, self.modules)
        if operation.function in DIVIDING:
            return self.divide(node)
        if not isinstance(self.found.values[node][0], torch.Tensor):
            self.refuse(node, "it gives several tensors")
        if node.target is after:
            labels = self.labels[self.sources(node)[0]]
        elif operation.is_layer:
            labels = self.layer(node, operation)
        elif operation.is_norm:
            labels = self.norm(node, operation.module)
        elif operation.function in RESHAPING:
            labels = self.reshape(node)
        elif operation.function in ELEMENTWISE or (operation.function is assign and operation.slices_space()):
            labels = self.elementwise(node)
        elif operation.function in (torch.cat, torch.concat, torch.concatenate):
            labels = self.concatenate(node)
        elif operation.function is F.pad:
            labels = self.pad(node)
        elif operation.function is operator.getitem and self.slices_channels(node):
            labels = self.piece(node)
        elif operation.keeps_channels(len(self.shape(self.source(node)))):
            labels = self.labels[self.source(node)]
        else:
            self.refuse(node, "it is not known to leave channels apart")
        shape = self.shape(node)
        if not 2 <= len(shape) <= 4 or shape[1] != len(labels):
            self.refuse(node, f"it turns {list(self.shape(self.source(node))[1:])} into {list(shape[1:])}")
        return labels

    def check_state(self, node: fx.Node) -> None:
        if any(one.op == "get_attr" for one in self.found.changes.get(node, ())):
            self.refuse(node, "it changes a weight or buffer in eval mode")

    def sources(self, node: fx.Node) -> list[fx.Node]:
        return [source for source in node.all_input_nodes if source in self.labels]

    def source(self, node: fx.Node) -> fx.Node:
        sources = self.sources(node)
        if len(sources) != 1:
            self.refuse(node, "several tensors meet in it" if sources else "its input cannot be followed")
        return sources[0]

    def divide(self, node: fx.Node) -> list[int]:
        """Pieces of one size lose channels together; those of sizes that are written down are as many as are left."""
        source = self.source(node)
        labels, shapes = self.labels[source], [tuple(value.shape) for value in self.found.values[node][0]]
        args: Any = node.args
        dim = node.kwargs.get("dim", args[2] if len(args) > 2 else 0)
        if not isinstance(dim, int) or dim % len(self.shape(source)) != 1 or len(args) < 2 or len(shapes) < 2:
            self.refuse(node, "it does not divide channels into pieces")
        ends = list(accumulate(shape[1] for shape in shapes))
        pieces = [labels[end - shape[1] : end] for end, shape in zip(ends, shapes, strict=True)]
        if isinstance(args[1], list | tuple):
            self.sizes += [(node.name, (1, i), piece) for i, piece in enumerate(pieces)]
        elif len({len(piece) for piece in pieces}) > 1:
            self.refuse(node, "its pieces are of different sizes")
        else:
            for piece in pieces[1:]:
                self.join(pieces[0], piece)
            if getattr(node.target, "__name__", node.target) == "split":
                self.sizes.append((node.name, (1,), pieces[0]))
        self.pieces[node] = pieces
        return labels

    def slices_channels(self, node: fx.Node) -> bool:
        """Whether an index takes one of several pieces, or a run of channels."""
        source, index = node.all_input_nodes[0], cast(Any, node.args)[1]
        if source in self.pieces:
            return isinstance(index, int)
        runs = list(index) if isinstance(index, tuple) else []
        plain = len(runs) > 1 and all(isinstance(run, slice) for run in runs)
        return plain and runs[0] == slice(None) != runs[1]

    def piece(self, node: fx.Node) -> list[int]:
        index: Any = node.args[1]
        if isinstance(index, int):
            return self.pieces[self.source(node)][index]
        labels, run = self.labels[self.source(node)], index[1]
        ends = (run.start, run.stop)
        if run.step not in (None, 1) or not all(end is None or isinstance(end, int) for end in ends):
            self.refuse(node, "it takes channels that are not one run")
        start, stop, _ = run.indices(len(labels))
        self.sizes += [
            (node.name, (1, 1, name), labels[:end])
            for name, written, end in (("start", run.start, start), ("stop", run.stop, stop))
            if written is not None
        ]
        return labels[start:stop]

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
        alone = not is_hooked(module) and not self.tie(name, module, axes)
        layer = Layer(name, kind, tuple(inputs), tuple(outputs), positions, groups, macs=macs, alone=alone)
        self.layers.append((node, layer))
        return outputs

    def tie(self, name: str, module: Any, axes: dict[int, list[int]]) -> bool:
        """Layers that share their weight keep the same rows of it; whether this one shares its with one before."""
        home = self.homes.setdefault(id(module.weight), name)
        if home == name:
            return False
        at = next(i for i, (_, layer) in enumerate(self.layers) if layer.name == home)
        first, layer = self.layers[at]
        self.layers[at] = (first, replace(layer, alone=False))
        for axis, rows in self.axes[f"{home}.weight"].items():
            self.join(rows, axes[axis])
        return True

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

    def reshape(self, node: fx.Node) -> list[int]:
        source = self.source(node)
        before, after, labels = self.shape(source), self.shape(node), self.labels[source]
        if after[:1] != before[:1] or prod(after) != prod(before) or len(after) < 2:
            self.refuse(node, f"it turns {list(before)} into {list(after)}")
        if after[1] == prod(before[1:]):
            labels = [label for label in labels for _ in range(prod(before[2:]))]
        for at, value in _written_shape(node):
            if value != -1:
                self.sizes.append((node.name, at, labels))
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

    def concatenate(self, node: fx.Node) -> list[int]:
        pieces = node.args[0] if node.args else node.kwargs["tensors"]
        dim = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", 0)
        assert isinstance(pieces, list | tuple)
        if dim not in (1, 1 - len(self.shape(node))) or not all(piece in self.labels for piece in pieces):
            self.refuse(node, "it does not put channels of images side by side")
        return [label for piece in pieces if isinstance(piece, fx.Node) for label in self.labels[piece]]

    def pad(self, node: fx.Node) -> list[int]:
        labels = self.labels[self.source(node)]
        widths: Any = node.args[1] if len(node.args) > 1 else node.kwargs["pad"]
        first = 2 * (len(self.shape(node)) - 2)  # where the widths of the channels' dimension stand
        before, after = (*widths[first : first + 2], 0, 0)[:2]
        if len(widths) > first + 2 or not all(isinstance(width, int) and width >= 0 for width in (before, after)):
            self.refuse(node, "it is not known to pad with whole channels")
        where = (1,) if len(node.args) > 1 else ("pad",)
        padded = (self.new(before), self.new(after))
        self.sizes += [(node.name, (*where, first + i), new) for i, new in enumerate(padded) if new]
        return [*padded[0], *labels, *padded[1]]

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

    def refuse(self, node: fx.Node, reason: str) -> NoReturn:
        module = self.modules.get(str(node.target)) if node.op == "call_module" else None
        named = getattr(node.target, "__name__", str(node.target))
        what = named if module is None else type(module).__name__
        raise BrickyardError(
            f"{self.name}: cannot be taken apart at {node.meta.get('path') or 'its top level'} ({what.strip('_')}): "
            f"{reason}; only CNNs can whose channels stay apart between convolutions and linear layers"
        )


def _written_shape(node: fx.Node) -> list[tuple[tuple[int | str, ...], int]]:
    """Where the second number of the new shape stands in a call of view or reshape, if it is written there."""
    if node.op == "call_module" or getattr(node.target, "__name__", node.target) not in ("view", "reshape"):
        return []
    if len(node.args) > 1 and isinstance(node.args[1], list | tuple):
        shape, where = node.args[1], (1, 1)
    elif "shape" in node.kwargs:
        shape, where = node.kwargs["shape"], ("shape", 1)
    else:
        shape, where = node.args[1:], (2,)
    number: Any = shape[1] if isinstance(shape, list | tuple) and len(shape) > 1 else None
    return [(where, number)] if isinstance(number, int) else []
