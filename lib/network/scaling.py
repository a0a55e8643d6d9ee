"""Parameter scaling: what makes the scores of components comparable, put into their last layers (MDA, section 3.2)."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import nn


@dataclass(frozen=True)
class Scaling:
    """What is done to each output of an assembly: times its factor, plus its offset."""

    factors: tuple[float, ...]
    offsets: tuple[float, ...]

    @classmethod
    def none(cls, outputs: int) -> "Scaling":
        """The scaling that leaves outputs as they are."""
        return cls((1.0,) * outputs, (0.0,) * outputs)

    def of(self, span: range) -> "Scaling":
        """The scaling of some outputs alone."""
        return Scaling(self.factors[span.start : span.stop], self.offsets[span.start : span.stop])

    def then(self, later: "Scaling") -> "Scaling":
        """This scaling and, on what it gives, a later one, as one."""
        triples = zip(self.offsets, later.factors, later.offsets, strict=True)
        factors = tuple(a * b for a, b in zip(self.factors, later.factors, strict=True))
        return Scaling(factors, tuple(offset * factor + shift for offset, factor, shift in triples))

    def __call__(self, logits: Float[torch.Tensor, "n outputs"]) -> Float[torch.Tensor, "n outputs"]:
        """Logits [n, outputs], scaled."""
        return logits * logits.new_tensor(self.factors) + logits.new_tensor(self.offsets)


class Scaled(nn.Module):
    """A network whose logits go through a scaling that its last layer cannot take in, since something follows it."""

    def __init__(self, network: nn.Module, by: Scaling):
        super().__init__()
        self.network, self.by = network, by
        weight = next(network.parameters())
        self.register_buffer("factors", weight.new_tensor(by.factors))
        self.register_buffer("offsets", weight.new_tensor(by.offsets))
        self.train(network.training)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images [b, 3, h, w] -> logits [b, outputs]."""
        return self.network(x) * self.get_buffer("factors") + self.get_buffer("offsets")


def fold(layer: Any, by: Scaling) -> None:
    """Puts a scaling into the weights and biases of the layer that gives the logits, biases that it lacks included."""
    factors, offsets = (torch.tensor(values, dtype=layer.weight.dtype) for values in (by.factors, by.offsets))
    factors, offsets = factors.to(layer.weight.device), offsets.to(layer.weight.device)
    with torch.no_grad():
        layer.weight.mul_(factors.view(-1, *[1] * (layer.weight.ndim - 1)))
        if layer.bias is not None:
            layer.bias.mul_(factors).add_(offsets)
        elif offsets.any():
            layer.bias = nn.Parameter(offsets)
