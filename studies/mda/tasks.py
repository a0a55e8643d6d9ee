"""The networks, their tasks, and how right a network is on one."""

from collections.abc import Sequence

import torch

from lib.mda import accuracies
from studies.mda.lab import Component, Lab, Source

KINDS = {
    "vgg": ("vgg_a", "vgg_b"),
    "residual": ("resnet20", "resnet32", "resnet56", "bottleneck"),
    "inception": ("googlenet",),
}
TASKS = {
    "0-2": (0, 1, 2),
    "3-9": (3, 4, 5, 6, 7, 8, 9),
    "even": (0, 2, 4, 6, 8),
    "odd": (1, 3, 5, 7, 9),
    "all ten": tuple(range(10)),
}
SINGLE = (0, 3, 6)  # classes


def kind(source: str) -> str:
    """Of a network."""
    return next(name for name, sources in KINDS.items() if source in sources)


def own(lab: Lab, split: str, classes: Sequence[int]) -> torch.Tensor:
    """Labels of a task's images of a split, as positions in its classes."""
    labels = lab.labels(split)
    wanted = torch.tensor(classes)
    return torch.searchsorted(wanted, labels[torch.isin(labels, wanted)])


def of_source(source: Source, classes: Sequence[int], split: str = "test") -> tuple[float, float]:
    """Accuracy on a task's images, over all classes and restricted to the task's, in percent."""
    logits, labels = source.answers(split, classes), own(source.lab, split, classes)
    everything = accuracies.accuracy(logits, torch.tensor(classes)[labels])
    return everything, accuracies.accuracy(logits[:, list(classes)], labels)


def of_component(lab: Lab, component: Component, classes: Sequence[int], split: str = "test") -> float:
    """Accuracy on a task's images, in percent."""
    logits = lab.answers(component.module, component.recipe.input, split, classes)
    return accuracies.accuracy(logits, own(lab, split, classes))


def auroc(lab: Lab, component: Component, source: Source, c: int) -> tuple[float, float, float]:
    """One against the rest on all test images: the source's probability, its logit, the component's logit."""
    positive = lab.labels("test") == c
    logits = source.answers("test")
    scores = (
        logits.softmax(1)[:, c],
        logits[:, c],
        lab.answers(component.module, component.recipe.input, "test")[:, 0],
    )
    first, second, third = (accuracies.auroc(values, positive) or float("nan") for values in scores)
    return first, second, third
