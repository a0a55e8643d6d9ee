"""Repair: a component made to compute what its source computed, in closed form and without labels.

Layer by layer, from the images to the logits, on a few images of the task: each layer is refitted by ridge regression
so that from what the component now gives it, it makes what the source makes before its BatchNorm. Not in the paper.
"""

from collections import Counter
from collections.abc import Collection, Iterable

import torch
from torch import nn

from ...base.progress import track
from ...channels.cutting import Kept
from ...images.data import Batch
from ...params.components import Repair
from ...trace.duplicate import duplicate, evaluating
from ...trace.plain import is_hooked
from .beside import Beside
from .fitting import Fitted, answer, can_be_fitted, fit, join, match

_BATCH = 100  # images that answers are asked for at once


def repair(
    source: nn.Module,
    component: nn.Module,
    kept: Kept,
    images: torch.Tensor,
    how: Repair,
    more: Iterable[Batch] | None = None,
    only: Collection[str] | None = None,
) -> nn.Module:
    """A copy of `component`, which was cut from `source` with the output channels `kept`, that follows it more closely.

    source, component: left as they are.
    images: float [n, 3, h, w], of the task's classes, without labels, in one batch, on the networks' device.
    how: see below, its numbers of images do not matter here.
    more: batches of images for the classifier's answers, as they are and whose labels do not matter, instead of
        `images`.
    only: layers and BatchNorms that may change, by module path; None: all.

    `how.method` ridge minimises for every layer ||X W + b - Y||^2 + lambda ||W - W0||^2: X the patches of what the
    repaired component gives it, W0 the weights that were cut out, Y what the source makes before its BatchNorm, b free
    where there is a bias or a BatchNorm to take it, lambda = `ridge` times the mean diagonal of X'X. Where a layer's
    output is added to another that is already there, Y absorbs how far that one is off. Where a ReLU follows, `steps`
    more regressions spend nothing on how far values lie below zero (see `lib.fit.layer.refit`). Where layers, and
    nothing else, read what a layer makes, `joint` rounds change its weights again for what those can make of it (see
    `lib.fit.joint.improve`). BatchNorms that follow no such layer are matched: the mean and the standard deviation of
    each channel before them are mapped onto those in the source. bn does only that, to all of them. none changes
    nothing. `classifier`: a linear one is fitted to the source's logits like any other layer, or then to its answers
    (see `lib.fit.answers.refit`) with a lambda of its own, `classifier_ridge` times the mean square. `mirror`: the
    images are also looked at mirrored, left to right.

    Raises BrickyardError where the component was not cut from such a source.
    """
    component = duplicate(component).eval()
    if how.method == "none":
        return component
    images = torch.cat([images, images.flip(-1)]) if how.mirror else images
    both = Beside(evaluating(source), component, kept, images)
    _follow(both, how, only)
    if how.method == "ridge" and how.classifier == "answers":
        answer(both, (x for x, _ in more) if more is not None else images.split(_BATCH), how.classifier_ridge)
    return component


@torch.no_grad()
def _follow(both: Beside, how: Repair, only: Collection[str] | None) -> None:
    """Runs both networks once, and changes the component's layers and BatchNorms as their turn comes."""
    matched = {name for name in _matched(both, how) if only is None or name in only}
    waiting: list[Fitted] = []  # for the layers that read them, to be fitted together with these
    for node, twin in track(both.pairs, "repair"):
        made, layer = both.before.step(node), both.layer(node)
        free = layer is not None and (only is None or layer.name in only)
        if layer is not None and free and can_be_fitted(both, node, layer) and how.method == "ridge":
            fitted = fit(both, node, layer, made, how)
            waiting += [fitted] if how.joint else []
        elif node.op == "call_module" and str(node.target) in matched:
            match(both, node, str(node.target))
        both.after.step(twin)
        for first in list(waiting):
            if (found := both.reading(first.node)) is not None:
                waiting.remove(first)
                join(both, first, found, node, how)
        both.forget(node)


def _matched(both: Beside, how: Repair) -> set[str]:
    """The BatchNorms, by path, that are to be matched: those that follow no layer that is fitted, run once and have no
    hooks, else what they see cannot be matched to one place.
    """
    ran = Counter(str(node.target) for node, _ in both.pairs if node.op == "call_module")
    behind = {layer.norm for layer in both.coupling.layers} if how.method == "ridge" else set()
    return {
        name
        for name, count in ran.items()
        if isinstance(both.modules[name], nn.BatchNorm1d | nn.BatchNorm2d)
        and count == 1
        and name not in behind
        and not is_hooked(both.modules[name])
    }
