"""Contributions of input channels to output channels (MDA, section 3.1), streamed and without partial convolutions.

The contribution of input channel i to output channel o for one image is ReLU(sum over space of the part of o's
pre-activation that comes from i). The sum over space is linear, so it is taken before the kernel is applied: a
tensor [B, O, I, H, W] of partial convolutions never exists.
"""

from collections.abc import Callable, Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import nn

from lib.data import Batch
from lib.errors import BrickyardError
from lib.mda.walk import Layer

_CHUNK = 2**24  # most elements of a [I, B, O] tensor


@torch.no_grad()
def select(
    model: nn.Module, batches: Iterable[Batch], count: int, classes: Sequence[str], name: str
) -> list[torch.Tensor]:
    """For each class the int64 positions, in the order of `batches`, of its most confident correct images.

    The best come first; `count` of each class, or all correct ones where there are fewer. Labels are outputs of
    `model`. Raises BrickyardError naming model and class when a class has no correct image.

    Differs from the paper's code, which selects among test images: use train images here.
    """
    device = next(model.parameters()).device
    confidences, labels, answers = [], [], []
    for x, y in batches:
        confidence, answer = model(x.to(device)).softmax(1).max(1)
        confidences.append(confidence.cpu())
        answers.append(answer.cpu())
        labels.append(y)
    confidence, answer, label = torch.cat(confidences), torch.cat(answers), torch.cat(labels)
    selected = []
    for c in range(len(classes)):
        right = ((label == c) & (answer == c)).nonzero().flatten()
        if not len(right):
            raise BrickyardError(
                f"{name}: class {classes[c]!r} has no correctly classified train image, so its channels cannot be "
                f"told; train {name} longer or leave it out of contributions.models"
            )
        selected.append(right[confidence[right].argsort(descending=True, stable=True)[:count]])
    return selected


@torch.no_grad()
def contributions(model: nn.Module, layers: Sequence[Layer], batches: Iterable[Batch]) -> dict[str, torch.Tensor]:
    """Contributions summed over all images of `batches`: layer name -> float64 [O, I] on the CPU.

    `model` in eval mode; it runs once over the batches, which may be of any sizes. I counts channels: the positions
    of a map that was flattened belong to their channel (see `linear`).
    """
    device = next(model.parameters()).device
    sums: dict[str, torch.Tensor] = {}

    def observer(layer: Layer) -> Callable[[nn.Module, tuple[torch.Tensor, ...]], None]:
        def observe(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            x = inputs[0]
            found = conv(x, module) if isinstance(module, nn.Conv2d) else linear(x, module, layer.positions)
            sums[layer.name] = sums.get(layer.name, 0) + found.double().cpu()

        return observe

    handles = [model.get_submodule(layer.name).register_forward_pre_hook(observer(layer)) for layer in layers]
    try:
        for x, _ in batches:
            model(x.to(device))
    finally:
        for handle in handles:
            handle.remove()
    return sums


def conv(x: torch.Tensor, layer: nn.Conv2d) -> torch.Tensor:
    """Contributions [O, I] of a convolution with groups = 1, summed over the images of x [b, I, h, w]."""
    return _rectified_sum(patches(x, layer), layer.weight.flatten(2))


def linear(x: torch.Tensor, layer: nn.Module, positions: int = 1) -> torch.Tensor:
    """Contributions [O, I] of a linear layer, summed over the images of x [b, I * positions].

    positions: how many features a channel has, more than one behind a flattened map. Such a layer is the convolution
    that covers the whole map: the sum over space comes before the ReLU. With one position a feature,
    sum_b ReLU(x w) = ReLU(w) sum_b ReLU(x) + ReLU(-w) sum_b ReLU(-x).

    Differs from the paper, which does not say how features of a flattened map are put together to channels.
    """
    weight = layer.get_parameter("weight")
    if positions == 1:
        return weight.relu() * x.relu().sum(0) + (-weight).relu() * (-x).relu().sum(0)
    return _rectified_sum(x.unflatten(1, (-1, positions)), weight.unflatten(1, (-1, positions)))


def patches(x: torch.Tensor, layer: nn.Conv2d) -> torch.Tensor:
    """Spatially summed patches [b, I, kh * kw] of x [b, I, h, w]: what each weight of a kernel is multiplied by."""
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    x = F.pad(x, layer._reversed_padding_repeated_twice, mode=mode)
    spans = [
        _starts(length, kernel, stride, dilation)
        for length, kernel, stride, dilation in zip(
            x.shape[2:], layer.kernel_size, layer.stride, layer.dilation, strict=True
        )
    ]
    sums = [x[:, :, rows, columns].sum((2, 3)) for rows in spans[0] for columns in spans[1]]
    return torch.stack(sums, 2)


def _starts(length: int, kernel: int, stride: int, dilation: int) -> list[slice]:
    """For each weight along one axis, the inputs that it meets as the kernel moves."""
    steps = (length - dilation * (kernel - 1) - 1) // stride + 1
    return [slice(k * dilation, k * dilation + (steps - 1) * stride + 1, stride) for k in range(kernel)]


def _rectified_sum(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """sum_b ReLU(sum_p x[b, i, p] weight[o, i, p]), [O, I], a few output channels at a time."""
    step = max(1, _CHUNK // (x.shape[0] * x.shape[1]))
    by_channel = x.transpose(0, 1)  # [I, b, P]
    parts = [
        torch.bmm(by_channel, some.permute(1, 2, 0)).relu_().sum(1)  # [I, b, o] -> [I, o]
        for some in weight.split(step)
    ]
    return torch.cat(parts, 1).T
