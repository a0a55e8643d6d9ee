"""Contributions of input channels to output channels (MDA, section 3.1), streamed and without partial convolutions.

The contribution of input channel i to output channel o for one image is ReLU(sum over space of the part of o's
pre-activation that comes from i). The sum over space is linear, so it is taken before the kernel is applied: a
tensor [B, O, I, H, W] of partial convolutions never exists.
"""

from collections.abc import Callable, Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import nn

from lib.channels import Layer
from lib.data import Batch
from lib.errors import BrickyardError

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
def contributions(
    model: nn.Module, layers: Sequence[Layer], batches: Iterable[Batch], folded: bool = False
) -> dict[str, torch.Tensor]:
    """Contributions summed over all images of `batches`: layer name -> float64 [O, I / groups] on the CPU.

    `model` in eval mode; it runs once over the batches, which may be of any sizes. I counts channels: the positions
    of a map that was flattened belong to their channel (see `linear`). folded: of layers that a BatchNorm follows, the
    contributions to what leaves the BatchNorm, which turns those of outputs with a negative scale round.
    """
    device = next(model.parameters()).device
    sums: dict[str, torch.Tensor] = {}

    def observer(layer: Layer) -> Callable[[nn.Module, tuple[torch.Tensor, ...]], None]:
        scale = norm_scale(model.get_submodule(layer.norm)) if folded and layer.norm else None

        def observe(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            x = inputs[0]
            convolution = isinstance(module, nn.Conv2d)
            found = conv(x, module, scale) if convolution else linear(x, module, layer.positions, scale)
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


def norm_scale(norm: nn.Module) -> torch.Tensor:
    """What a BatchNorm in eval mode multiplies each of its channels by, [C]."""
    variance, weight = norm.get_buffer("running_var"), norm._parameters.get("weight")
    scale = (variance + float(norm.eps)).rsqrt()  # type: ignore[arg-type]
    return scale if weight is None else scale * weight


def conv(x: torch.Tensor, layer: nn.Conv2d, scale: torch.Tensor | None = None) -> torch.Tensor:
    """Contributions [O, I / groups] of a convolution, summed over the images of x [b, I, h, w].

    Column j of row o is the j-th input channel of o's group. scale: [O], what the outputs are multiplied by.
    """
    weight = layer.weight if scale is None else layer.weight * scale.view(-1, 1, 1, 1)
    return _rectified_sum(patches(x, layer), weight.flatten(2), layer.groups)


def linear(x: torch.Tensor, layer: nn.Module, positions: int = 1, scale: torch.Tensor | None = None) -> torch.Tensor:
    """Contributions [O, I] of a linear layer, summed over the images of x [b, I * positions].

    positions: how many features a channel has, more than one behind a flattened map. Such a layer is the convolution
    that covers the whole map: the sum over space comes before the ReLU. With one position a feature,
    sum_b ReLU(x w) = ReLU(w) sum_b ReLU(x) + ReLU(-w) sum_b ReLU(-x). scale: [O], as in `conv`.

    Differs from the paper, which does not say how features of a flattened map are put together to channels.
    """
    weight = layer.get_parameter("weight")
    weight = weight if scale is None else weight * scale[:, None]
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


def _rectified_sum(x: torch.Tensor, weight: torch.Tensor, groups: int = 1) -> torch.Tensor:
    """sum_b ReLU(sum_p x[b, i, p] weight[o, j, p]), [O, I / groups], a few output channels of each group at a time.

    x [b, I, P], weight [O, I / groups, P]; i is the j-th input channel of o's group.
    """
    inputs, deep = x.shape[1], weight.shape[1]
    by_channel = x.transpose(0, 1)  # [I, b, P]
    kernels = weight.unflatten(0, (groups, -1)).permute(0, 2, 3, 1).reshape(inputs, x.shape[2], -1)  # [I, P, O / G]
    step = max(1, _CHUNK // (x.shape[0] * inputs))
    parts = [torch.bmm(by_channel, some).relu_().sum(1) for some in kernels.split(step, 2)]  # [I, o]
    return torch.cat(parts, 1).view(groups, deep, -1).transpose(1, 2).reshape(-1, deep)
