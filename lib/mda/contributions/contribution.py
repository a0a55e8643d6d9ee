"""Contributions of input channels to output channels (MDA, section 3.1), streamed and without partial convolutions.

The contribution of input channel i to output channel o for one image is ReLU(sum over space of the part of o's
pre-activation that comes from i). The sum over space is linear, so it is taken before the kernel is applied: a
tensor [B, O, I, H, W] of partial convolutions never exists. Tokens, and windows of an image, are space.

A head of an attention is one unit: its contribution to an output of the projection is that of all its channels
together, ReLU of their sum, as that of a flattened map's positions is.

Differs from the paper, which knows neither tokens nor heads.
"""

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float64, Int64
from torch import nn

from ...base.errors import BrickyardError
from ...channels.channels import Layer
from ...images.data import Batch

CHUNK = 2**24  # most elements of a [I, B, O] tensor
_IMAGES = 25  # that are in memory with what the layers make of them


@torch.no_grad()
def select(
    model: nn.Module, batches: Iterable[Batch], count: int, classes: Sequence[str], name: str, wrong: bool = False
) -> list[Int64[torch.Tensor, " _"]]:
    """For each class the int64 positions, in the order of `batches`, of its most confident correct images.

    The best come first; `count` of each class, or all correct ones where there are fewer. Labels are outputs of
    `model`. wrong: those of a class are correct whatever the answer is, as in the paper's code; for a network that has
    learnt nothing. Raises BrickyardError naming model and class when a class has no correct image.

    Use train images, as the paper's scripts do. Differs from its code, which ranks images by the probability of their
    class, whether they are correct or not.
    """
    device = next(model.parameters()).device
    confidences, labels, answers = [], [], []
    for x, y in batches:
        shares = model(x.to(device)).softmax(1).cpu()
        confidences.append(shares.gather(1, y[:, None])[:, 0])
        answers.append(shares.argmax(1))
        labels.append(y)
    confidence, answer, label = torch.cat(confidences), torch.cat(answers), torch.cat(labels)
    selected = []
    for c in range(len(classes)):
        right = ((label == c) & ((answer == c) | wrong)).nonzero().flatten()
        if not len(right):
            raise BrickyardError(
                f"{name}: class {classes[c]!r} has no correctly classified train image, so its channels cannot be "
                f"told; train {name} longer or leave it out of contributions.models"
            )
        selected.append(right[confidence[right].argsort(descending=True, stable=True)[:count]])
    return selected


@torch.no_grad()
def contributions(
    model: nn.Module,
    layers: Sequence[Layer],
    batches: Iterable[Batch],
    folded: bool = False,
    order: torch.memory_format = torch.preserve_format,
    name: str = "",
) -> dict[str, Float64[torch.Tensor, "_ _"]]:
    """Contributions summed over all images of `batches`: layer name -> float64 [O, I / groups] on the CPU.

    `model` in eval mode; it runs once over the batches, which may be of any sizes, a few images at a time. I counts
    channels: the positions of a map that was flattened belong to their channel. folded: of layers that a BatchNorm
    follows, the contributions to what leaves the BatchNorm, which turns those of outputs with a negative scale round.
    order: in which the numbers of an image lie. name: of the model, for errors. Raises BrickyardError naming it and a
    layer that is not called.
    """
    device = next(model.parameters()).device
    met: dict[str, list[torch.Tensor]] = {layer.name: [] for layer in layers}
    images = 0
    sums: dict[str, torch.Tensor] = {}

    def observer(layer: Layer) -> Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], None]:
        return lambda module, args, kwargs: met[layer.name].append(
            patches(given(args, kwargs), module, layer.positions, images)
        )

    def add(layer: Layer, seen: list[torch.Tensor]) -> None:
        scale = norm_scale(model.get_submodule(layer.norm)) if folded and layer.norm else None
        found = rectified(torch.cat(seen), model.get_submodule(layer.name), scale)
        sums[layer.name] = sums.get(layer.name, 0) + found.double().cpu()

    handles = [
        model.get_submodule(layer.name).register_forward_pre_hook(observer(layer), with_kwargs=True) for layer in layers
    ]
    try:
        for x, _ in batches:
            for some in x.split(_IMAGES):
                images = len(some)
                model(some.to(device, memory_format=order, copy=True))
            for layer in layers:
                if seen := met[layer.name]:
                    add(layer, seen)
                    seen.clear()
    finally:
        for handle in handles:
            handle.remove()
    if images:
        check_called(model, layers, sums, name)
    return sums


def given(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> torch.Tensor:
    """What a layer reads, of what it is called with."""
    return args[0] if args else kwargs["input"]


def check_called(model: nn.Module, layers: Iterable[Layer], called: Container[str], name: str = "") -> None:
    """Raises BrickyardError naming a network and a layer that has not been called; called: names of those that were."""
    for layer in layers:
        if layer.name not in called:
            raise BrickyardError(
                f"{name or type(model).__name__}: layer {layer.name} is never called, its weight is used by a function "
                f"(F.linear), so what it reads is not seen; call {layer.name} itself, or write contributions.score: "
                "magnitude"
            )


def norm_scale(norm: nn.Module) -> Float[torch.Tensor, " C"]:
    """What a BatchNorm in eval mode multiplies each of its channels by, [C]."""
    variance, weight = norm.get_buffer("running_var"), norm._parameters.get("weight")
    scale = (variance + float(norm.eps)).rsqrt()  # type: ignore[arg-type]
    return scale if weight is None else scale * weight


def of_layer(
    x: Float[torch.Tensor, "b ..."],
    layer: nn.Module,
    positions: int = 1,
    scale: Float[torch.Tensor, " O"] | None = None,
) -> Float[torch.Tensor, "O j"]:
    """Contributions [O, I / groups] of one layer, summed over the images of x.

    x: [b, I, h, w] of a convolution, [b, ..., I * positions] of a linear layer; column j of row o is the j-th input
    channel of o's group. scale: [O], what the outputs are multiplied by.
    """
    return rectified(patches(x, layer, positions), layer, scale)


def patches(
    x: Float[torch.Tensor, "b ..."], layer: nn.Module, positions: int = 1, images: int = 0
) -> Float[torch.Tensor, "n I P"]:
    """Spatially summed patches [b, I, P] of x: what each of the P weights between two channels is multiplied by.

    x [b, I, h, w] of a convolution: P = kh * kw. Sums over rows, then over columns, are products with matrices of zeros
    and ones, quickest with channels last. x [b, ..., I * positions] of a linear layer, summed over what lies between:
    P = positions, how many features a channel has, more than one behind a flattened map, where such a layer is the
    convolution that covers the whole map, or of a head. images: n, if several b, one behind another, are of one image.

    Differs from the paper, which does not say how features of a flattened map are put together to channels.
    """
    images = images or len(x)
    if not isinstance(layer, nn.Conv2d):
        x = x if x.ndim == 2 and len(x) == images else x.reshape(images, -1, x.shape[-1]).sum(1)
        return x.unflatten(1, (-1, positions))
    padding = layer._reversed_padding_repeated_twice
    if layer.padding_mode != "zeros":
        x, padding = F.pad(x, padding, mode=layer.padding_mode), [0, 0, 0, 0]
    rows, columns = (
        _met(length, *padding[i : i + 2], kernel, stride, dilation).to(x)
        for length, i, kernel, stride, dilation in zip(
            x.shape[2:], (2, 0), layer.kernel_size, layer.stride, layer.dilation, strict=True
        )
    )
    x = x.permute(0, 2, 3, 1)
    by_row = (rows @ x.flatten(2)).unflatten(2, x.shape[2:])
    found = (columns @ by_row).flatten(1, 2).transpose(1, 2)
    return found if len(found) == images else found.unflatten(0, (images, -1)).sum(1)


@lru_cache
def _met(length: int, before: int, after: int, kernel: int, stride: int, dilation: int) -> torch.Tensor:
    """[kernel, length]: 1 where a weight meets an input as the kernel moves along one axis, else 0; without padding."""
    steps = (before + length + after - dilation * (kernel - 1) - 1) // stride + 1
    first, moved = torch.arange(kernel) * dilation - before, torch.arange(steps) * stride
    return (torch.arange(length) == (first[:, None] + moved)[:, :, None]).any(1)


def rectified(
    met: Float[torch.Tensor, "b I P"], layer: nn.Module, scale: Float[torch.Tensor, " O"] | None = None
) -> Float[torch.Tensor, "O j"]:
    """sum_b ReLU(sum_p met[b, i, p] weight[o, j, p]), [O, I / groups]; i is the j-th input channel of o's group.

    met: [b, I, P], see `patches`. A few output channels of each group are taken at a time. With one weight between two
    channels, sum_b ReLU(x w) = ReLU(w) sum_b ReLU(x) + ReLU(-w) sum_b ReLU(-x).
    """
    count, inputs, weights = met.shape
    groups = getattr(layer, "groups", 1)
    weight = cast(torch.Tensor, layer.weight).reshape(-1, inputs // groups, weights)
    weight = (weight if scale is None else weight * scale.view(-1, 1, 1)).unflatten(0, (groups, -1))  # [G, O / G, j, P]
    if weights == 1:
        above, below = (sign.relu().sum(0).view(groups, 1, -1) for sign in (met, -met))
        found = weight[..., 0].relu() * above + (-weight[..., 0]).relu() * below
        return found.flatten(0, 1)
    by_channel = met.transpose(0, 1).contiguous()  # [I, b, P]
    kernels = weight.permute(0, 2, 3, 1).reshape(inputs, weights, -1)  # [I, P, O / G]
    step = max(1, CHUNK // (count * inputs))
    parts = [torch.bmm(by_channel, some).relu_().sum(1) for some in kernels.split(step, 2)]  # [I, o]
    return torch.cat(parts, 1).view(groups, inputs // groups, -1).transpose(1, 2).flatten(0, 1)
