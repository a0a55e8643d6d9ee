"""Component masks: which channels of a network a class needs (MDA, contribution aggregation and allocation)."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from lib.data import Batch
from lib.errors import BrickyardError
from lib.mda.contribution import contributions
from lib.mda.walk import Layer
from lib.params.contributions import Threshold


def relative(values: torch.Tensor) -> torch.Tensor:
    """Min-max normalised along the last dimension, [..., n] -> [..., n] in [0, 1].

    Differs from the paper, whose quotient is 0/0 where all values are equal, a single input channel among them:
    there, positive values count as 1, zeros as 0.
    """
    low, high = values.amin(-1, keepdim=True), values.amax(-1, keepdim=True)
    scaled = (values - low) / (high - low).clamp_min(torch.finfo(values.dtype).tiny)
    return torch.where(high > low, scaled, (values > 0).to(values.dtype))


def allocate(contribution: torch.Tensor, kept: torch.Tensor, threshold: Threshold) -> torch.Tensor:
    """The input channels that a class needs in one layer, bool [I].

    contribution: the class's, float [O, I]; kept: the output channels that it needs, bool [O]. The soft relative
    contribution is min-max normalised over i for each o; the hard one is 1 where the soft one exceeds alpha, else 0;
    its sum over the kept outputs, normalised again, has to exceed beta.
    """
    hard = relative(contribution) > threshold.alpha
    aggregated = hard[kept].sum(0).to(contribution.dtype)
    return relative(aggregated) > threshold.beta


def class_masks(
    layers: Sequence[Layer],
    contribution: Mapping[str, torch.Tensor],
    output: int,
    thresholds: Mapping[str, Threshold],
    who: str,
) -> dict[str, torch.Tensor]:
    """Layer name -> the output channels that one class needs, bool [channels]; the classifier's own is one-hot.

    layers: from the image to the classifier; contribution: layer name -> the class's, [O, I]; thresholds: by layer
    kind; who: network and class, for the error that an emptied layer raises.
    """
    masks = {layers[-1].name: torch.arange(layers[-1].channels) == output}
    for before, layer in zip(layers[-2::-1], layers[:0:-1], strict=True):
        threshold = thresholds[layer.kind]
        kept = allocate(contribution[layer.name], masks[layer.name], threshold)
        if not kept.any():
            raise BrickyardError(
                f"{who} keeps no channel of layer {before.name} at contributions.{layer.kind} alpha {threshold.alpha}, "
                f"beta {threshold.beta}: none contributes to what is kept of {layer.name}; train the network longer "
                "or leave it out of contributions.models"
            )
        masks[before.name] = kept
    return {layer.name: masks[layer.name] for layer in layers}


def masks(
    model: nn.Module,
    layers: Sequence[Layer],
    images: Iterable[Iterable[Batch]],
    classes: Sequence[str],
    thresholds: Mapping[str, Threshold],
    name: str,
) -> dict[str, torch.Tensor]:
    """Layer name -> component masks of all classes, bool [classes, channels].

    images: for each class, in the order of the outputs, batches of its selected images; one class's contributions
    are held at a time. The image's own channels are never taken out, so the first layer needs no contributions.
    """
    rows = [
        class_masks(layers, contributions(model, layers[1:], batches), c, thresholds, f"{name}: class {classes[c]!r}")
        for c, batches in enumerate(images)
    ]
    return {layer.name: torch.stack([row[layer.name] for row in rows]) for layer in layers}


def table(masks: Mapping[str, torch.Tensor], classes: Sequence[str]) -> list[dict[str, Any]]:
    """One row a class and layer: its channels and how many of them are kept; the classifier is left out."""
    return [
        {"class": name, "layer": layer, "channels": mask.shape[1], "kept": int(mask[c].sum())}
        for c, name in enumerate(classes)
        for layer, mask in list(masks.items())[:-1]
    ]


def shares(masks: Mapping[str, torch.Tensor]) -> dict[str, float]:
    """Layer name -> share of its channels that a class keeps, mean over classes; the classifier is left out."""
    return {name: mask.float().mean().item() for name, mask in list(masks.items())[:-1]}


def overall(masks: Mapping[str, torch.Tensor]) -> float:
    """Share of all channels that a class keeps, mean over classes; the classifier is left out."""
    kept = torch.cat(list(masks.values())[:-1], 1)
    return kept.float().mean().item()
