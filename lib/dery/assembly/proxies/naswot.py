"""NASWOT (Mellor et al. 2021), the predictor of DeRy, section 3.4: how differently images switch a network's units."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from ....fit.exact import exact

if TYPE_CHECKING:
    from ..built import Built

BETTER = "high"

UNITS = frozenset(
    {"relu", "relu6", "leaky_relu", "rrelu_with_noise", "_prelu_kernel", "elu", "celu", "selu", "silu", "gelu"}
    | {"hardswish", "mish", "softplus"}
)  # operations that pass what is positive and hold back what is negative
CLAMPS = frozenset({"clamp", "clamp_min", "hardtanh", "threshold"})  # the same where they start at 0


def predict(made: "Built") -> float | None:
    """NASWOT of the finished network on the probe images."""
    return naswot(made.network, (x for x, _ in made.measures.probes.images(made.recipe.input)))


@torch.no_grad()
def naswot(network: nn.Module, batches: Iterable[torch.Tensor]) -> float | None:
    """Mean over `batches` of images [b, 3, h, w] of log|det K_H|; -inf where two images switch all units alike.

    K_H [b, b] counts the units that two images switch alike; the code of a unit is the sign of its pre-activation.
    Every rectifier-like operation counts, whether a module or a function calls it. None where there is none.

    Differs from the paper's code: that looks at what leaves modules of some kinds, not all of them rectifiers, in train
    mode, and so misses functions; see `naswot_paper`.
    """
    scores = []
    for x in batches:
        with Codes(len(x)) as codes:
            network(x)
        if codes.kernel is None:
            return None
        scores.append(float(torch.linalg.slogdet(codes.kernel)[1]))
    return sum(scores) / len(scores) if scores else None


class Codes(TorchDispatchMode):
    """Inside, `kernel` [b, b] (float64) adds up over all units how many of them pairs of images switch alike."""

    def __init__(self, images: int) -> None:
        super().__init__()
        self.images = images
        self.kernel: torch.Tensor | None = None

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if _is_unit(func.overloadpacket.__name__.rstrip("_"), args[1:]) and self._per_image(args[0]):
            bits = (args[0] > 0).reshape(self.images, -1).float()  # before the operation, which may be in place
            alike = exact(bits @ bits.T + (1 - bits) @ (1 - bits).T)
            self.kernel = alike if self.kernel is None else self.kernel + alike
        return func(*args, **(kwargs or {}))

    def _per_image(self, x: torch.Tensor) -> bool:
        return x.is_floating_point() and x.ndim > 0 and x.shape[0] % self.images == 0


def _is_unit(name: str, bounds: tuple[Any, ...]) -> bool:
    return name in UNITS or (name in CLAMPS and bounds[:1] == (0,))
