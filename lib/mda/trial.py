"""An assembled network and its sources, tried on the same images: what each answers and what scaling they need."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from lib import data
from lib.mda import classes, lego, measure, scaling
from lib.sources import Images
from lib.zoo import Card, Input


@dataclass(frozen=True)
class Trial:
    """factors: by which scaling multiplies each output, from train images; accuracy: on test images, in percent, see
    `measure.assembly`.
    """

    factors: list[float]
    accuracy: dict[str, float | None]


def run(
    network: nn.Module,
    recipe: lego.Recipe,
    sources: Mapping[str, tuple[nn.Module, Card]],
    images: data.DataSet,
    images_per_class: int,
    seed: int,
    device: torch.device,
) -> Trial:
    """Measures an assembled network that has not been scaled, and its whole sources, on images of its classes.

    images_per_class: train images from which factors are found (MDA, section 3.2), about so many.
    """
    numbers = classes.numbers(recipe.classes, images.images.classes, "lego.components")
    test = data.of_classes(images.images, images.test, numbers)
    train = data.of_classes(images.images, images.train, numbers)
    train = data.stratified_sample(images.images, train, images_per_class * len(numbers), seed)

    def both(index: np.ndarray) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Logits of the assembly and of its sources side by side, and labels."""
        found, labels = _answers(network.to(device), recipe.input, images.images, index, numbers)
        whole = {
            name: _answers(source.to(device), card.input, images.images, index, numbers)[0]
            for name, (source, card) in sources.items()
        }
        known = {name: card.classes for name, (_, card) in sources.items()}
        return found, lego.side_by_side(recipe, whole, known), labels

    assembled, whole, labels = both(train)
    factors = scaling.all_factors(assembled, labels, recipe.spans)
    source_factors = scaling.all_factors(whole, labels, recipe.spans)
    assembled, whole, labels = both(test)
    return Trial(factors, measure.assembly(assembled, whole, labels, recipe.spans, factors, source_factors))


def _answers(
    model: nn.Module, expected: Input, images: Images, index: np.ndarray, numbers: list[int]
) -> tuple[torch.Tensor, torch.Tensor]:
    return measure.logits(model, data.Loader(images, index, expected.transform(), measure.BATCH_SIZE, numbers))
