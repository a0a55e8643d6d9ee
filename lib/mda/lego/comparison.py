"""An assembled network and its sources, tried on the same images: what each answers and what scaling they need."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import get_args

import numpy as np
import torch
from torch import nn

from ...images import data
from ...images.sources import Images
from ...network.assembled import Assembled
from ...network.scaling import Scaling
from ...params.lego import Lego, Method
from ...trace.cost import Cost
from ...trace.duplicate import evaluating
from ...zoo.card import Card, Input
from .. import accuracies, classes
from . import calibration, lego


@dataclass(frozen=True)
class Trial:
    """An assembled network tried on images.

    scaling: the one that was asked for, from train images.
    accuracy: on test images, in percent, see `accuracies.assembly`.
    scalings: split -> method -> accuracy, of all methods.
    """

    scaling: Scaling
    accuracy: dict[str, float | None]
    scalings: dict[str, dict[str, float]]


def run(
    network: nn.Module,
    recipe: Assembled,
    sources: Mapping[str, tuple[nn.Module, Card]],
    images: data.DataSet,
    params: Lego,
    seed: int,
    device: torch.device,
) -> Trial:
    """Measures an assembled network that has not been scaled, and its whole sources, on images of its classes.

    network, recipe: the assembly, left as and where it is.
    sources: by name, likewise; their cards.
    images: the data set.
    params: the method of scaling, its pull, and from how many images; scalings come from train images alone, about
        `scaling_images_per_class` of each class; on validation images they are compared.
    seed: of the sample of train images.
    device: on which the networks run.
    """
    network = evaluating(network, device)
    sources = {name: (evaluating(source, device), card) for name, (source, card) in sources.items()}
    numbers = classes.numbers(recipe.classes, images.classes, "lego.components")
    train, validation, test = (
        data.of_classes(images.images, split, numbers) for split in (images.train, images.validation, images.test)
    )
    train = data.stratified_sample(images.images, train, params.scaling_images_per_class * len(numbers), seed)

    def both(index: np.ndarray) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Logits of the assembly and of its sources side by side, and labels."""
        found, labels = _answers(network, recipe.input, images.images, index, numbers)
        whole = {
            name: _answers(source, card.input, images.images, index, numbers)[0]
            for name, (source, card) in sources.items()
        }
        known = {name: card.classes for name, (_, card) in sources.items()}
        return found, lego.side_by_side(recipe, whole, known), labels

    assembled, whole, labels = both(train)
    ridge, chosen = params.scaling_ridge, params.scaling
    fits = {method: calibration.fit(method, assembled, labels, recipe.spans, ridge) for method in get_args(Method)}
    of_sources = calibration.fit(chosen, whole, labels, recipe.spans, ridge)
    compared = {}
    for split, index in (("validation", validation), ("test", test)):
        assembled, whole, labels = both(index)
        compared[split] = {method: accuracies.accuracy(by(assembled), labels) for method, by in fits.items()}
    accuracy = accuracies.assembly(assembled, whole, labels, recipe.spans, fits[chosen], of_sources)
    return Trial(fits[chosen], accuracy, compared)


def sizes(recipe: Assembled) -> dict[str, int]:
    """What an assembly costs, and what its parts cost together, before they were put together."""
    parts = sum((part.cost for part in recipe.parts.values()), Cost())
    return {
        "params": recipe.cost.params,
        "macs": recipe.cost.macs,
        "parts_params": parts.params,
        "parts_macs": parts.macs,
    }


def _answers(
    model: nn.Module, expected: Input, images: Images, index: np.ndarray, numbers: list[int]
) -> tuple[torch.Tensor, torch.Tensor]:
    return accuracies.logits(model, data.Loader(images, index, expected.transform(), accuracies.BATCH_SIZE, numbers))
