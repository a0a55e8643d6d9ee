"""The steps of a repair: a layer fitted, alone or for those that read it; a BatchNorm matched; answers fitted."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from math import ceil
from typing import Any

import torch
from torch import fx, nn

from ...channels.channels import Layer
from ...channels.operations import Operation
from ...fit import answers
from ...fit.batchnorm import Moments
from ...fit.joint import Reader, improve
from ...fit.layer import channels_first, refit
from ...params.components import Repair
from .beside import Beside
from .goals import goal
from .readers import Reading

_JOINTLY = 250  # images, at most, on which two layers are fitted together


@dataclass(frozen=True, eq=False)
class Fitted:
    """A layer that has been fitted, its operation in the source, and what the component gives it."""

    layer: Layer
    node: fx.Node
    x: torch.Tensor


def can_be_fitted(both: Beside, node: fx.Node, layer: Layer) -> bool:
    """Whether a layer runs once, with its own weight and bias: a function may be given a bias that is made anew."""
    bias = Operation(node, both.modules).bias
    return layer.alone and (bias is None or (isinstance(bias, fx.Node) and bias.target == f"{layer.name}.bias"))


def fit(both: Beside, node: fx.Node, layer: Layer, made: torch.Tensor, how: Repair) -> Fitted:
    """Refits one layer of the component by ridge regression; made: what it makes in the source."""
    x, module = both.given(node), both.new[layer.name]
    given = channels_first(x, module)
    _put(both, layer, *refit(given, goal(both, node, made), module, how.ridge, _free(both, layer), how.steps))
    return Fitted(layer, node, x)


def join(both: Beside, first: Fitted, found: Reading, now: fx.Node, how: Repair) -> None:
    """Fits a layer once more, for the sake of the layers that read it, if layers alone do; now: what ran last.

    What has been made of its output by now is made anew. Images may lie class by class, so that some of all are taken.
    """
    layers = [both.layers[Operation(one, both.modules).name] for one in found.readers]
    inputs = [both.twin[one.all_input_nodes[0]] for one in found.readers]
    if not layers or not all(map(partial(can_be_fitted, both), found.readers, layers)) or len(first.x) != both.count:
        return
    if not all(both.has_images_first(read) for one in found.readers for read in (one, one.all_input_nodes[0])):
        return
    some = slice(None, None, ceil(both.count / _JOINTLY))
    twin, way = both.twin[first.node], [both.twin[one] for one in found.way]
    readers = [
        Reader(both.new[layer.name], goal(both, one, both.before.step(one)[some], some), _free(both, layer))
        for one, layer in zip(found.readers, layers, strict=True)
    ]

    def between(z: torch.Tensor) -> list[torch.Tensor]:
        made = both.after.follow(twin, z, way, some)
        return [made[read] for read in inputs]

    module, free = both.new[first.layer.name], _free(both, first.layer)
    fitted = improve(first.x[some], module, between, readers, how.ridge, free, how.steps, how.joint)
    _put(both, first.layer, *fitted)
    z = module(first.x)
    past = [both.twin[one] for one in found.way if both.place[one] <= both.place[now]]
    made = both.after.follow(twin, z, past, slice(None)) | {twin: z}
    both.after.env.update({one: made[one] for one in (twin, *past) if one in both.after.env})


def match(both: Beside, node: fx.Node, name: str) -> None:
    """Makes a BatchNorm give the mean and standard deviation of each channel that it gives in the source."""
    norm = both.new[name]
    if norm.running_mean is None:
        return
    rows = both.positions(next(row for row in both.coupling.axes[f"{name}.running_mean"] if row is not None))
    wanted = both.before.env[node.all_input_nodes[0]][:, rows]
    old, new = Moments.of([wanted]), Moments.of([both.given(node)])
    ratio = torch.where((old.deviation > 0) & (new.deviation > 0), new.deviation / old.deviation, 1.0)
    norm.running_mean.copy_(new.mean - (old.mean - norm.running_mean) * ratio)
    norm.running_var.copy_(((norm.running_var + norm.eps) * ratio.square() - norm.eps).clamp_min(0))


@torch.no_grad()
def answer(both: Beside, batches: Iterable[torch.Tensor], ridge: float) -> None:
    """Fits the classifier of the component, if nothing follows it, to the source's answers to `batches` of images."""
    layer = both.coupling.classifier
    module = both.new[layer.name]
    if not isinstance(module, nn.Linear) or not _gives_logits(both, layer):
        return
    (node,) = (one for one, _ in both.pairs if both.layer(one) is layer)
    given, logits = list[torch.Tensor](), list[torch.Tensor]()
    for x in batches:
        x = x.to(both.device, memory_format=both.format)
        logits.append(both.before.run(x))
        given.append(both.given_for(node, x))
    x, y, rows = torch.cat(given), torch.cat(logits), both.positions(layer.outputs)
    others = [i for i in range(y.shape[1]) if i not in rows]
    weight, bias = answers.refit(x, y[:, rows], y[:, others], module, ridge)
    module.weight.copy_(weight)
    if module.bias is not None:
        module.bias.copy_(bias)


def _gives_logits(both: Beside, layer: Layer) -> bool:
    """Whether what `layer` makes leaves the network as it is."""
    node = both.found.output
    while isinstance(both.modules.get(str(node.target)), nn.Identity | nn.Dropout):
        node = node.all_input_nodes[0]
    return layer.alone and Operation(node, both.modules).name == layer.name


def _free(both: Beside, layer: Layer) -> bool:
    """Whether a layer has a bias, or a BatchNorm that can take one."""
    return both.new[layer.name].bias is not None or layer.norm is not None


def _put(both: Beside, layer: Layer, weight: torch.Tensor, bias: torch.Tensor) -> None:
    """Gives a layer of the component its weight and bias."""
    module: Any = both.new[layer.name]
    module.weight.copy_(weight)
    if module.bias is not None:
        module.bias.copy_(bias)
    elif layer.norm:
        both.new[layer.norm].get_buffer("running_mean").sub_(bias)
