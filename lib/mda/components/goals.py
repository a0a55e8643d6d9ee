"""What a layer of a component should make, so that what follows it is as in the source."""

import operator
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

from ...channels.channels import Layer
from ...fit.layer import Goal, channels_first
from ..contributions.contribution import norm_scale
from .beside import Beside

_EVERY = slice(None)
_FAINT = 1e-3  # a BatchNorm's scale below which it is not divided by
_ADDING = (operator.add, operator.iadd, torch.add)
_MULTIPLYING = (operator.mul, operator.imul, torch.mul, "mul", "mul_")
_RECTIFYING = (F.relu, F.relu_, torch.relu, torch.relu_, "relu", "relu_")
_PASSING = (nn.Identity, nn.Dropout, nn.Dropout2d)


def goal(both: Beside, node: fx.Node, made: torch.Tensor, images: slice = _EVERY) -> Goal:
    """The goal of the layer at `node`, for some images; made: all that it makes of them in the source, [n, O, ...].

    What follows it alone, a BatchNorm or layer scale, a tensor that is added and a ReLU, says how:
    z -> ReLU(scale z + shift + added). A tensor that is added and there already is off by some error, which the goal
    absorbs; below the ReLU's zero, anything will do.
    """
    layer = both.layer(node)
    assert layer is not None
    rows = both.positions(layer.outputs)
    target = channels_first(made, both.modules[layer.name])[:, rows]
    scale, shift = (torch.full((len(rows),), value, device=target.device) for value in (1.0, 0.0))
    added = None
    for before, user in _line(node):
        module: Any = both.modules.get(str(user.target)) if user.op == "call_module" else None
        acts = list[nn.Module]()
        if _is_norm(module) and added is None and module.running_mean is not None:
            scale, shift = _normalised(module, rows, scale, shift)
            acts = [act for act in module.children() if not isinstance(act, nn.Identity)]  # those of a norm with one
        elif user.target in _ADDING and added is None and (other := both.met(user, before)) is not None:
            added, wanted = (
                channels_first(values[images], both.modules[layer.name])
                for values in (both.after.env[both.twin[other]], both.before.env[other])
            )
            error = wanted[:, rows] - added
            target = target + torch.where(_along(scale.abs() > _FAINT, error), error / _along(scale, error), 0.0)
        elif added is None and (by := _scale(both, before, user, layer)) is not None:
            scale, shift = scale * by[rows], shift * by[rows]
        elif isinstance(module, nn.ReLU) or (module is None and user.target in _RECTIFYING):
            acts = [nn.ReLU()]
        elif not isinstance(module, _PASSING):
            break
        if any(not isinstance(act, nn.ReLU) for act in acts):
            break
        if acts:
            return _rectified(target, scale, shift, added)
    return Goal(target)


def _scale(both: Beside, before: fx.Node, user: fx.Node, layer: Layer) -> torch.Tensor | None:
    """What a layer scale multiplies each channel by that a linear layer makes, [C]."""
    others = [one for one in user.all_input_nodes if one is not before]
    if user.target not in _MULTIPLYING or len(others) != 1 or others[0].op != "get_attr" or layer.kind != "linear":
        return None
    owner, _, name = str(others[0].target).rpartition(".")
    found = getattr(both.modules.get(owner), name, None)
    return found if isinstance(found, torch.Tensor) and found.shape == (len(layer.outputs),) else None


def _line(node: fx.Node) -> Iterator[tuple[fx.Node, fx.Node]]:
    """Pairs of an operation and the only one that reads it, as long as there is only one."""
    while len(node.users) == 1:
        user = next(iter(node.users))
        yield node, user
        node = user


def _is_norm(module: Any) -> bool:
    return isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)


def _normalised(
    norm: Any, rows: list[int], scale: torch.Tensor, shift: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Scale and shift of what has gone through a BatchNorm in eval mode, too."""
    by = norm_scale(norm)[rows]
    offset = 0.0 if norm.bias is None else norm.bias[rows]
    return scale * by, (shift - norm.get_buffer("running_mean")[rows]) * by + offset


def _rectified(target: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor, added: torch.Tensor | None) -> Goal:
    """The goal z = target where ReLU(scale z + shift + added) follows."""
    level = _along(shift, target) + (0.0 if added is None else added)
    clear = _along(scale.abs() > _FAINT, target)
    floor = torch.where(clear, -level / _along(scale, target), -torch.inf).expand_as(target)
    return Goal(target, floor, torch.where((scale < 0) & (scale.abs() > _FAINT), -1.0, 1.0))


def _along(vector: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return vector.view(1, -1, *[1] * (like.ndim - 2))
