"""How the authors of DeRy look at a network before they choose it: in train mode, batch by batch, with gradients."""

from collections.abc import Callable, Iterable, Sequence
from math import isfinite

import torch
from jaxtyping import Float, Int64
from torch import nn
from torch.nn import functional as F

from ...fit.exact import exact
from ...trace.duplicate import duplicate

Images = Float[torch.Tensor, "_ ..."]
Labels = Int64[torch.Tensor, "_"]
Score = Callable[[nn.Module, Images, Labels], float | None]


@torch.enable_grad()
def mean_in_train_mode(network: nn.Module, batches: Iterable[tuple[Images, Labels]], score: Score) -> float | None:
    """Mean over `batches` of images [b, 3, h, w] and labels [b] of what `score` says of a copy of `network`.

    The copy is in train mode: BatchNorm normalises a batch by the batch's own statistics, dropout drops, by a chance
    that is the same for every network. A batch of one image is left out, since it has no statistics. None where
    nothing is left, or a score is None or not finite.

    Differs from the paper: each batch finds the same copy, not one whose running statistics the last one has moved;
    they are not read in train mode.
    """
    copy, found = duplicate(network).requires_grad_(True).train(), list[float]()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for x, y in batches:
            if len(x) > 1:
                value = score(copy, x, y.to(x.device))
                if value is None or not isfinite(value):
                    return None
                found.append(value)
    return sum(found) / len(found) if found else None


def gradients(
    network: nn.Module, x: Float[torch.Tensor, "b ..."], y: Int64[torch.Tensor, " b"], wanted: Sequence[torch.Tensor]
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Those of `wanted` on which the mean cross entropy of labels [b] depends, each with its gradient, in float64."""
    loss = F.cross_entropy(network(x), y)
    found = torch.autograd.grad(loss, wanted, allow_unused=True)
    return [(exact(w.detach()), exact(g)) for w, g in zip(wanted, found, strict=True) if g is not None]
