"""Tuning: a few epochs of gradient training of a component or an assembled network (MDA, "Score 2")."""

from pathlib import Path

import numpy as np
from torch import nn

from ..images import data
from ..network.files import Described
from ..params.training import Training
from ..training import fit
from ..zoo import ask
from ..zoo.teachers import Networks, Teacher
from . import accuracies, classes


def tune(
    network: nn.Module,
    recipe: Described,
    images: data.DataSet,
    index: np.ndarray,
    settings: Training,
    seed: int,
    scratch: Path | None = None,
    teachers: Networks = (),
    key: str = "lego.tuning",
) -> None:
    """Trains the weights of `network` in place on those of the images `index` that are of its classes.

    BatchNorms stay as they are: a repaired component's have taken up what the repair found, and are no longer the
    statistics of what they are given. In the padded form the zeros between components learn, too.

    recipe: of the network.
    index: of train images.
    scratch: as in `lib.training.fit`.
    teachers: networks that know its classes, of whose logits for these the mean teaches, where `settings.distillation`
        is above 0.
    key: of the settings, for progress and errors.
    """
    loader = _loader(recipe, images, index, settings.batch_size, key)
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)]
    kept = {id(parameter) for module in norms for parameter in module.parameters()}
    learning = [parameter for parameter in network.parameters() if id(parameter) not in kept]
    fit.fit(
        network,
        loader,
        settings,
        seed,
        parameters=learning,
        still=norms,
        teacher=Teacher(teachers, recipe.classes, recipe.input).to(learning[0].device) if teachers else None,
        scratch=scratch,
        what=key,
        rate=f"{key}.learning_rate",
    )


def accuracy(network: nn.Module, recipe: Described, images: data.DataSet) -> dict[str, float]:
    """Accuracy on validation and test images of its classes, and balanced on test images, in percent."""
    validation, test = (
        ask.of(network, _loader(recipe, images, index, accuracies.BATCH_SIZE, "lego.tuning"))
        for index in (images.validation, images.test)
    )
    return {"validation": validation.accuracy, "test": test.accuracy, "balanced_test": test.balanced}


def _loader(recipe: Described, images: data.DataSet, index: np.ndarray, batch: int, who: str) -> data.Loader:
    numbers = classes.numbers(recipe.classes, images.classes, who)
    own = data.of_classes(images.images, index, numbers)
    return data.Loader(images.images, own, recipe.input.transform(), batch, numbers)
