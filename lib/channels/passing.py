"""What every kind of operation makes of channels, from the images to the logits."""

import operator
from collections.abc import Callable
from dataclasses import replace
from itertools import groupby
from typing import Any, Literal

import torch
from torch import fx, nn
from torch.nn import functional as F

from ..trace import parts
from ..trace.effects import after
from ..trace.graph import Trace
from ..trace.plain import is_hooked
from ..trace.tracer import assign
from . import mixing, moves, operations, weights
from .channels import Layer
from .following import Following
from .labels import varying
from .operations import Operation


class Passing(Following):
    """Every operation from the images to the logits, followed in turn. layers: with the labels that they meet first in
    `given`; axes: of the weights of layers and norms.
    """

    def __init__(self, found: Trace, name: str):
        super().__init__(found, name)
        self.layers: list[tuple[fx.Node, Layer]] = []
        self.given: dict[str, torch.Tensor] = {}
        self.axes: dict[str, dict[int, list[int]]] = {}
        for node in parts.between(found, found.input, found.output):
            self.check_state(node)
            if node in found.content:
                self.labels[node] = self.follow(node)
                self.grids += [one for one in self.several(node) if len(varying(one)) > 1]
            else:
                weights.follow(self, node)

    def several(self, node: fx.Node) -> list[torch.Tensor]:
        """The labels of all tensors that an operation gives."""
        labels = self.labels[node]
        return [one for one in labels if one is not None] if isinstance(labels, list) else [labels]

    def follow(self, node: fx.Node) -> Any:
        """The labels of what `node` gives."""
        operation = Operation(node, self.modules)
        function = operation.function
        if function is operator.getitem:
            return moves.take(self, node)
        if node.target is after:
            return self.labels[node.all_input_nodes[0]]
        if any(not isinstance(self.labels[source], torch.Tensor) for source in self.sources(node)):
            return self.opaque(node, "it is given several tensors")
        several = not isinstance(self.found.values[node][0], torch.Tensor)
        if function in operations.REDUCING and self.source(node) is not None:
            return mixing.reduce(self, node)
        if function in operations.DIVIDING | operations.UNBINDING and self.source(node) is not None:
            return (moves.divide if function in operations.DIVIDING else moves.unbind)(self, node)
        if several:
            return self.opaque(node, "it gives several tensors")
        labels = self.moved(node, operation)
        shape = self.shape(node)
        if labels.ndim != len(shape) or any(a not in (1, b) for a, b in zip(labels.shape, shape, strict=True)):
            self.refuse(node, f"its channels are not told right, {list(labels.shape)} of {list(shape)}")
        return labels

    def moved(self, node: fx.Node, operation: Operation) -> torch.Tensor:
        """The labels of what `node`, which gives one tensor, makes of those that it is given."""
        function, source = operation.function, self.source(node)
        if function in operations.ELEMENTWISE or operation.called in operations.MASKING:
            return self.meet(node, node.all_input_nodes, self.shape(node))
        if function is assign:
            return self.assigned(node, operation)
        if function is F.scaled_dot_product_attention:
            return mixing.attend(self, node)
        if function in operations.MULTIPLYING:
            return mixing.multiply(self, node)
        if function in _OF_SEVERAL:
            return _OF_SEVERAL[function](self, node)
        if source is None:
            return self.opaque(node, "several tensors meet in it")
        labels = self.labels[source]
        if operation.is_layer:
            return self.layer(node, operation)
        if operation.is_norm:
            return self.norm(node, operation.module)
        if operation.is_response_norm:
            return self.response_norm(node, operation.module)
        if operation.normalised is not None:
            last = operation.normalised or labels.ndim
            return mixing.normalise(self, node, list(range(labels.ndim))[-last:], "it takes all channels together")
        if function in operations.SOFTENING:
            named = [*node.args, None][1] if node.op != "call_module" else operation.module.dim
            dims = node.kwargs.get("dim", named)
            return mixing.normalise(
                self, node, [dims] if isinstance(dims, int) else [*range(labels.ndim)], "it takes channels together"
            )
        if function is F.normalize:
            dim: Any = node.kwargs.get("dim", [*node.args, 2, 1][2] if len(node.args) > 2 else 1)
            return mixing.normalise(self, node, [dim], "it takes channels together")
        if function in _MOVES:
            return _MOVES[function](self, node)
        if operation.called in operations.WINDOWS:
            return moves.turn(self, node)
        if operation.is_pointwise:
            return labels
        if operation.is_spatial and len(self.shape(node)) == labels.ndim:
            return self.hold(labels, {*range(labels.ndim)} - {1}, node, "channels lie along space in it")
        return self.opaque(node, "it is not known to leave channels apart")

    def assigned(self, node: fx.Node, operation: Operation) -> torch.Tensor:
        """Numbers put to some positions, or where a mask says so, channel by channel."""
        target, index, value = node.args
        assert isinstance(target, fx.Node)
        if target in self.labels and not isinstance(value, fx.Node):
            if isinstance(index, fx.Node) and index in self.labels and self.shape(index) == self.shape(node):
                return self.meet(node, [target, index], self.shape(node))
            if not isinstance(index, fx.Node) and operation.slices_whole(self.labels[target]):
                return self.labels[target]
        if isinstance(value, fx.Node) and target in self.labels and value in self.labels:
            whole = operation.slices_whole(self.labels[target])
            if whole and self.labels[value].shape == self.labels[target].shape:
                self.join(self.labels[value], self.labels[target])
                return self.labels[target]
        return self.opaque(node, "it is not known to leave channels apart")

    def check_state(self, node: fx.Node) -> None:
        """Refuses a network that learns in eval mode."""
        if any(one.op == "get_attr" for one in self.found.changes.get(node, ())):
            self.refuse(node, "it changes a weight or buffer in eval mode")

    def again(self, node: fx.Node, name: str, given: torch.Tensor, dim: int) -> torch.Tensor:
        """A layer that is used once more: what it meets at one place is one channel."""
        self.join(self.given[name], given.flatten())
        at = next(i for i, (_, layer) in enumerate(self.layers) if layer.name == name)
        first, layer = self.layers[at]
        self.layers[at] = (first, replace(layer, alone=False, macs=layer.macs + self.found.macs.get(node, 0)))
        return _along(torch.tensor(layer.outputs), dim, len(self.shape(node)))

    def layer(self, node: fx.Node, operation: Operation) -> torch.Tensor:
        """New channels, each made of all that are given, or of those of its group."""
        module, name, source = operation.module, operation.name, self.only(node)
        labels, dims = self.labels[source], len(self.shape(node))
        linear = isinstance(module, nn.Linear)
        dim = dims - 1 if linear else 1
        if dims < 2 or not self.has_images_first(source):
            return self.opaque(node, "images are not its first dimension")
        if elsewhere := [one for one in varying(labels) if one != dim]:
            self.fix(labels, node, "channels lie along positions in it")
            for one in elsewhere:
                labels = torch.zeros_like(labels.narrow(one, 0, 1))
        given = labels.flatten().expand(self.shape(source)[dim]).clone()
        if name in self.given:
            return self.again(node, name, given, dim)
        self.given[name] = given
        outputs = self.new(self.shape(node)[dim])
        inputs, positions, groups = given.tolist(), 1, 1
        axes = {0: outputs.tolist(), 1: inputs}
        if not linear and module.groups > 1:
            groups = module.groups
            rows = outputs.view(groups, -1)
            self.join(rows[:, :1], torch.cat([given.view(groups, -1), rows], 1))
            axes = {0: outputs.tolist()}
        elif linear:
            runs = [(label, len(list(run))) for label, run in groupby(inputs)]
            if len({length for _, length in runs}) == 1 and runs[0][0]:
                inputs, positions = [label for label, _ in runs], runs[0][1]
        self.axes[f"{name}.weight"] = axes
        if module.bias is not None:
            self.axes[f"{name}.bias"] = {0: outputs.tolist()}
        kind: Literal["conv", "linear"] = "linear" if linear else "conv"
        alone, macs = not is_hooked(module), self.found.macs.get(node, 0)
        self.layers.append(
            (node, Layer(name, kind, tuple(inputs), tuple(outputs.tolist()), positions, groups, macs=macs, alone=alone))
        )
        made = _along(outputs, dim, dims)
        if isinstance(operation.bias, fx.Node) and str(operation.bias.target) != f"{name}.bias":
            self.weigh(node, operation.bias, made, [dim], self.shape(node))
        return made

    def norm(self, node: fx.Node, module: Any) -> torch.Tensor:
        """A norm with statistics of every channel, or of groups, which stay together."""
        labels = self.labels[node.all_input_nodes[0]]
        labels = labels if varying(labels) in ([], [1]) else self.hold(labels, {*range(labels.ndim)} - {1}, node, "")
        if isinstance(module, nn.GroupNorm) and labels.shape[1] > 1:
            groups = labels.unflatten(1, (module.num_groups, -1))
            self.join(groups[:, :, :1], groups)
        self.weighted(str(node.target), module, labels.flatten().expand(self.shape(node)[1]))
        return labels

    def response_norm(self, node: fx.Node, module: Any) -> torch.Tensor:
        """A GRN, whose mean counts channels that were taken out as zeros: see `lib.channels.cutting`."""
        labels = self.labels[node.all_input_nodes[0]]
        dim = module.channel_dim % labels.ndim
        labels = self.hold(labels, {*range(labels.ndim)} - {dim}, node, "")
        self.weighted(str(node.target), module, labels.flatten().expand(self.shape(node)[dim]))
        return labels

    def weighted(self, path: str, module: Any, labels: torch.Tensor) -> None:
        """The vectors of a norm follow its channels."""
        for key, tensor in (*module._parameters.items(), *module._buffers.items()):
            if tensor is not None and tensor.ndim == 1 and len(tensor) == len(labels):
                axes = self.axes.setdefault(f"{path}.{key}", {0: labels.tolist()})
                self.join(torch.tensor(axes[0]), labels)


def _along(labels: torch.Tensor, dim: int, dims: int) -> torch.Tensor:
    """Labels [n] along one of several dimensions."""
    return labels.view([len(labels) if one == dim else 1 for one in range(dims)])


_OF_SEVERAL: dict[Any, Callable[[Following, fx.Node], torch.Tensor]] = {
    **dict.fromkeys((torch.cat, torch.concat, torch.concatenate), moves.concatenate),
    torch.stack: moves.stack,
    **dict.fromkeys((torch.Tensor.reshape_as, torch.Tensor.view_as), moves.reshape_as),
}
_MOVES: dict[Any, Callable[[Following, fx.Node], torch.Tensor]] = {
    **dict.fromkeys(operations.RESHAPING, moves.reshape),
    **dict.fromkeys(operations.EXPANDING, moves.expand),
    **dict.fromkeys(operations.TURNING, moves.turn),
    **dict.fromkeys(operations.ROLLING, moves.roll),
    **dict.fromkeys(operations.FRESH, moves.fresh),
    **dict.fromkeys((F.glu, nn.GLU), moves.gate),
    **dict.fromkeys((F.pixel_shuffle, nn.PixelShuffle), moves.unfold),
    **dict.fromkeys((F.channel_shuffle, nn.ChannelShuffle), moves.shuffle),
    F.pad: moves.pad,
}
