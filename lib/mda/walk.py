"""The walk through a network from the image to the classifier: which layers have channels that can be taken out."""

from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import fx, nn

from lib import graph
from lib.errors import BrickyardError

_ACTIVATIONS = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish, nn.Softplus, nn.Sigmoid,
    nn.Tanh, nn.Hardswish, nn.Hardsigmoid, nn.Hardtanh,
)  # fmt: skip
_POOLING = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)
_OTHER = (nn.BatchNorm1d, nn.BatchNorm2d, nn.Flatten, nn.Identity, nn.Dropout, nn.Dropout2d, nn.AlphaDropout)
_CHANNELWISE = (*_ACTIVATIONS, *_POOLING, *_OTHER)
_METHODS = {"relu", "relu_", "sigmoid", "tanh", "mean", "flatten", "view", "reshape", "contiguous", "squeeze"}
_FUNCTIONS = {
    F.relu, F.relu_, torch.relu, torch.relu_, F.relu6, F.leaky_relu, F.elu, F.selu, F.celu, F.gelu, F.silu, F.mish,
    F.softplus, F.sigmoid, torch.sigmoid, F.tanh, torch.tanh, F.hardswish, F.hardsigmoid, F.hardtanh, F.max_pool2d,
    F.avg_pool2d, F.adaptive_avg_pool2d, F.adaptive_max_pool2d, torch.flatten, torch.mean, torch.reshape,
    torch.squeeze, F.dropout, F.dropout2d, torch.dropout,
}  # fmt: skip


@dataclass(frozen=True)
class Layer:
    """A convolution or linear layer on the way from the image to the classifier.

    name: its module path; channels: how many leave it; positions: how many features of its input belong to a channel
    of the layer before, more than one where a map was flattened.
    """

    name: str
    kind: Literal["conv", "linear"]
    channels: int
    positions: int = 1


def walk(model: nn.Module, name: str, shape: tuple[int, ...]) -> tuple[Layer, ...]:
    """The convolutions and linear layers of a single-path network for images of `shape`, the classifier last.

    Raises BrickyardError naming the network and the module where the walk fails.
    """
    found = graph.trace(model, name, shape)
    values = {node: value for node, (value, _) in found.values.items()}
    modules = dict(model.named_modules())
    layers: list[Layer] = []
    current: fx.Node | None = None
    channels = shape[0]
    weighted: set[str] = set()
    for node in found.graph.nodes:
        if node.op == "placeholder":
            current = node
        if node.op == "placeholder" or (node.op != "output" and not isinstance(values[node], torch.Tensor)):
            continue
        tensors = [source for source in node.all_input_nodes if isinstance(values[source], torch.Tensor)]
        if current is None or tensors != [current]:
            raise _failed(name, node, modules, "more than one path meets here")
        if node.op == "output":
            break
        if node.op == "call_module" and next(modules[str(node.target)].parameters(), None) is not None:
            if node.target in weighted:
                raise _failed(name, node, modules, "it is used twice")
            weighted.add(str(node.target))
        layer = _layer(name, node, modules, values, channels)
        if layer is not None:
            layers.append(layer)
            channels = layer.channels
        elif not _passes(node, modules):
            raise _failed(name, node, modules, "it is not known to leave channels apart")
        _check_shape(name, node, modules, tuple(values[current].shape), tuple(values[node].shape), layer is not None)
        current = node
    if len(layers) == 1:
        raise BrickyardError(f"{name}: has no layer before its classifier, so nothing can be taken apart")
    if not layers or current is None or tuple(values[current].shape) != (2, layers[-1].channels):
        raise BrickyardError(
            f"{name}: has no classifier: its last convolution or linear layer does not give the logits"
        )
    return tuple(layers)


def _layer(
    name: str, node: fx.Node, modules: dict[str, nn.Module], values: dict[fx.Node, Any], channels: int
) -> Layer | None:
    module = modules.get(str(node.target)) if node.op == "call_module" else None
    if type(module) is nn.Conv2d:
        if module.groups != 1:
            raise _failed(name, node, modules, "a grouped convolution")
        return Layer(str(node.target), "conv", module.out_channels)
    if type(module) is nn.Linear:
        if values[node].ndim != 2:
            raise _failed(name, node, modules, f"a linear layer on a tensor of {values[node].ndim} dimensions")
        return Layer(str(node.target), "linear", module.out_features, module.in_features // channels)
    return None


def _passes(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    """Whether an operation treats every channel by itself and keeps their order."""
    if node.op == "call_module":
        return isinstance(modules[str(node.target)], _CHANNELWISE)
    if node.op == "call_method" and node.target in ("view", "reshape"):
        return bool(node.args[-1] == -1)  # a fixed number of features would not fit the smaller network
    if node.op == "call_method":
        return node.target in _METHODS
    return node.op == "call_function" and node.target in _FUNCTIONS


def _check_shape(
    name: str,
    node: fx.Node,
    modules: dict[str, nn.Module],
    before: tuple[int, ...],
    after: tuple[int, ...],
    is_layer: bool,
) -> None:
    """Refuses operations that permute or fold dimensions: channels stay second, or are flattened with their map."""
    positions = 1
    for length in before[2:]:
        positions *= length
    allowed = {before[1]} if len(after) == len(before) else {before[1], before[1] * positions}
    if not is_layer and (len(after) not in (2, 4) or after[0] != before[0] or after[1] not in allowed):
        raise _failed(name, node, modules, f"it turns {list(before[1:])} into {list(after[1:])}")


def _failed(name: str, node: fx.Node, modules: dict[str, nn.Module], reason: str) -> BrickyardError:
    if node.op == "call_module":
        what = type(modules[str(node.target)]).__name__
    else:
        what = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
    where = f"{node.meta.get('path') or 'its top level'} ({what.strip('_')})"
    return BrickyardError(
        f"{name}: cannot be taken apart at {where}: {reason}; so far only single-path CNNs can (convolution, linear, "
        "BatchNorm, activation, pooling, flatten and dropout in one line)"
    )
