"""The classifier of a component, fitted to the answers of its source: a convex problem, without labels."""

from typing import Any

import torch
from jaxtyping import Float
from torch.nn import functional as F

from .convex import minimise

ITERATIONS = 1000


def refit(
    x: Float[torch.Tensor, "n I"],
    wanted: Float[torch.Tensor, "n O"],
    others: Float[torch.Tensor, "n R"],
    layer: Any,
    ridge: float,
) -> tuple[Float[torch.Tensor, "O I"], Float[torch.Tensor, " O"]]:
    """Weight [O, I] and bias [O] with which a linear layer answers as the source does.

    x [n, I]: what the component gives `layer`, whose weights W0 are a good start; wanted [n, O], others [n, R]: the
    source's logits for the task's classes and for its others. Minimises the cross-entropy of softmax(x W' + b, others)
    to softmax(wanted, others), so that the logits stay comparable with those of other components, plus lambda
    ||W - W0||^2 with lambda = `ridge` times the mean diagonal of X'X / n. Unlike squared differences of logits it
    counts what changes an answer. L-BFGS in float64. Not in the paper.
    """
    features, rest = x.double().cpu(), others.double().cpu().logsumexp(1, keepdim=True)  # -inf without others
    rest = rest if others.shape[1] else rest[:, :0]
    target = torch.cat([wanted.double().cpu(), rest], 1).softmax(1)
    start = layer.weight.detach().double().cpu()
    bias = torch.zeros(len(start)).double() if layer.bias is None else layer.bias.detach().double().cpu()
    pull = ridge * features.square().sum(0).mean() / len(features)
    parts = [start.numel()] if layer.bias is None else [start.numel(), len(start)]

    def loss(theta: torch.Tensor) -> torch.Tensor:
        weight, *free = theta.split(parts)
        logits = features @ weight.view_as(start).T + (free[0] if free else 0.0)
        value = F.cross_entropy(torch.cat([logits, rest], 1), target)
        return value + pull * (weight.view_as(start) - start).square().sum()

    first = torch.cat([start.flatten(), bias])[: sum(parts)]
    weight, *free = minimise(loss, first, maxiter=ITERATIONS).split(parts)
    return weight.view_as(start).to(layer.weight), (free[0] if free else bias).to(layer.weight)
