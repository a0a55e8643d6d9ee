"""BatchNorm statistics without labels: mean and variance of what reaches a layer, of one or of all in one pass."""

from collections.abc import Iterable

import torch
from jaxtyping import Float, Float64
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from .exact import exact


class Moments:
    """Mean and variance of every channel over all images and positions, in float64 [C], as batches come."""

    def __init__(self, count: int = 0, mean: torch.Tensor | None = None, variance: torch.Tensor | None = None) -> None:
        """count: rows that have been met, with their mean and variance [C]."""
        none = torch.zeros(0, dtype=torch.float64)
        self.calls, self.count, self.mean = 0, count, none if mean is None else mean
        self.variance = none if variance is None else variance

    @classmethod
    def of(cls, batches: Iterable[Float[torch.Tensor, "_ C ..."]]) -> "Moments":
        """The moments of all batches together."""
        found = cls()
        for x in batches:
            found.add(x)
        return found

    def add(self, x: Float[torch.Tensor, "n C ..."]) -> None:
        """One batch more; its variance is taken about its own mean, so that large means cost no digits."""
        self.calls += 1
        variance, mean = torch.var_mean(exact(x), [0, *range(2, x.ndim)], correction=0)
        if not self.count:
            self.count, self.mean, self.variance = x.numel() // x.shape[1], mean, variance
            return
        share = (count := x.numel() // x.shape[1]) / (self.count + count)
        apart = mean - self.mean
        self.variance = (1 - share) * self.variance + share * variance + share * (1 - share) * apart.square()
        self.mean = self.mean + share * apart
        self.count += count

    @property
    def deviation(self) -> Float64[torch.Tensor, " C"]:
        """The standard deviations."""
        return self.variance.sqrt()


def has_batchnorm(module: nn.Module) -> bool:
    """Whether any layer of `module` keeps batch statistics."""
    return bool(_layers(module))


@torch.no_grad()
def batchnorm(module: nn.Module, batches: Iterable[torch.Tensor]) -> torch.Tensor | None:
    """Replaces, in place, the running statistics of every BatchNorm of `module` by those of what reaches it in one pass
    of `batches`, in which each normalises a batch by the batch's own, one with a single value a channel, which has
    none, by those that it has so far; everything else stays in eval mode. Without BatchNorm nothing is run.

    Where there is but one batch, returns what `module` made of it, which is what it makes of it from now on.
    """
    layers = _layers(module)
    if not layers:
        return None
    module.eval()
    met: dict[nn.Module, Moments] = {layer: Moments() for layer in layers}

    def meet(layer: nn.Module, given: tuple[torch.Tensor, ...]) -> None:
        x = given[0]
        met[layer].add(x)
        layer.train(x.numel() > x.shape[1])

    handles = [layer.register_forward_pre_hook(meet) for layer in layers]
    outputs = list[torch.Tensor]()
    try:
        for x in batches:
            outputs = [*outputs[-1:], module(x)]  # one is kept, of several none is wanted
    finally:
        for handle in handles:
            handle.remove()
        module.eval()
    for layer in layers:
        put(layer, met[layer])
    alike = all(own.calls == 1 and own.count > 1 for own in met.values())
    return outputs[0] if len(outputs) == 1 and alike else None


@torch.no_grad()
def put(layer: _BatchNorm, moments: Moments) -> None:
    """Makes `moments`, where anything was met, the running statistics of `layer`."""
    if moments.count and layer.running_mean is not None and layer.running_var is not None:
        layer.running_mean.copy_(moments.mean)
        layer.running_var.copy_(moments.variance)


def _layers(module: nn.Module) -> list[_BatchNorm]:
    return [one for one in module.modules() if isinstance(one, _BatchNorm) and one.running_mean is not None]
