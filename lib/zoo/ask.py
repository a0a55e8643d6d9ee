"""How well a network does: accuracy, and balanced accuracy where classes have different numbers of images."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int64
from torch import nn

from ..base.progress import track
from ..images.data import Batch
from ..trace.logits import logits


@dataclass(frozen=True)
class Scores:
    """accuracy: share of images whose largest logit is at their label; balanced: the mean of that over the classes that
    have images; both in percent.
    """

    accuracy: float
    balanced: float


@torch.no_grad()
def of(model: nn.Module, batches: Iterable[Batch]) -> Scores:
    """The scores of a network on some images; `model` in eval mode."""
    device = next(model.parameters()).device
    pairs = [(logits(model(x.to(device))).argmax(1).cpu() == y, y) for x, y in track(batches, "batches")]
    right, labels = (torch.cat(parts) for parts in zip(*pairs, strict=True))
    return Scores(100 * int(right.sum()) / len(labels), balanced(right, labels))


def balanced(right: Bool[torch.Tensor, " n"], labels: Int64[torch.Tensor, " n"]) -> float:
    """The mean over classes of the share that is right, in percent; right: bool [n], labels: int64 [n]."""
    images = torch.bincount(labels)
    hits = torch.bincount(labels[right], minlength=len(images))
    present = images > 0
    return 100 * (hits[present].double() / images[present]).mean().item()
