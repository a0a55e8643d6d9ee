"""BatchNorm over the images of all processes, on any device, whatever module computes it."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import distributed
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode


class Synchronised(TorchFunctionMode):
    """Inside, `F.batch_norm` of a batch in training takes mean and variance over the batches of all processes, as
    `torch.nn.SyncBatchNorm` does, which is for GPUs alone and takes the place of modules.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        return (_batch_norm if func is F.batch_norm else func)(*args, **(kwargs or {}))


def _batch_norm(
    input: torch.Tensor,
    running_mean: torch.Tensor | None,
    running_var: torch.Tensor | None,
    weight: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> torch.Tensor:
    """As `F.batch_norm`; in training, of the images [n, c, ...] of all processes."""
    if not training:
        return F.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)
    x = input.to(torch.promote_types(input.dtype, torch.float32))
    others, shape = [axis for axis in range(x.ndim) if axis != 1], (1, -1, *[1] * (x.ndim - 2))
    own = torch.cat([x.sum(others), x.new_full((1,), x.numel() / x.shape[1])])
    total = _sum(own)
    n = total[-1]
    mean = total[:-1] / n
    centred = x - mean.view(shape)
    variance = _sum(centred.square().sum(others)) / n
    with torch.no_grad():
        if running_mean is not None:
            running_mean.lerp_(mean.to(running_mean.dtype), momentum)
        if running_var is not None:
            running_var.lerp_((variance * n / (n - 1)).to(running_var.dtype), momentum)
    y = centred * (variance + eps).rsqrt().view(shape)
    if weight is not None:
        y = y * weight.view(shape)
    if bias is not None:
        y = y + bias.view(shape)
    return y.to(input.dtype)


class _Sum(torch.autograd.Function):
    """Over processes; so is its gradient, since each one's loss depends on it."""

    @staticmethod
    def forward(ctx: Any, own: torch.Tensor) -> torch.Tensor:
        total = own.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *grad_outputs: torch.Tensor) -> torch.Tensor:
        return _sum(*grad_outputs)


def _sum(own: torch.Tensor) -> torch.Tensor:
    total: Any = _Sum.apply(own)
    return total
