"""Networks taken apart, repaired and asked."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import nn

from lib.base import artifacts
from lib.channels.channels import Coupling
from lib.channels.coupling import couple
from lib.channels.cutting import Scales
from lib.images import data
from lib.mda import accuracies
from lib.mda.components import component as making
from lib.mda.components.sizing import Sized
from lib.mda.contributions import scores
from lib.mda.contributions.masks import Evidence
from lib.network import component as network
from lib.network import files
from lib.params.base import read
from lib.params.components import Repair
from lib.params.contributions import Contributions
from lib.params.run import Run
from lib.trace import graph
from lib.zoo.card import Card, Input
from stages import SCRATCH
from studies.mda import fpgm, hrank
from studies.mda.params import Study

BATCH = 100  # images

Score = Literal["contribution", "taylor", "magnitude", "random", "fpgm", "hrank"]


@dataclass(frozen=True)
class Way:
    """How a component comes about; size: its parameters as a fraction of those of the official component, which has
    the authors' thresholds; hard: as in params.yaml.
    """

    repair: Repair
    size: float = 1.0
    score: Score = "contribution"
    hard: Literal["binary", "soft"] = "binary"


@dataclass(frozen=True)
class Component:
    """A part of a network, cut out and repaired."""

    module: nn.Module
    recipe: network.Component


class Lab:
    """The images, and the networks by name; dataset, zoo, sources: the folders that the stages of these names leave."""

    def __init__(self, dataset: Path, zoo: Path, sources: Path) -> None:
        self.zoo, self.told = zoo, sources
        self.images = data.load(dataset, SCRATCH)
        self.seed = read("run", Run).seed
        self.params, self.study = read("contributions", Contributions), read("study", Study)
        self.names = self.images.images.classes
        self._sources: dict[str, Source] = {}
        self._tensors: dict[tuple[str, str], torch.Tensor] = {}

    def source(self, name: str) -> "Source":
        """A zoo network, opened once."""
        if name not in self._sources:
            self._sources[name] = Source(self, name)
        return self._sources[name]

    @cached_property
    def splits(self) -> dict[str, np.ndarray]:
        """Index arrays: all test images; samples of the validation images, and of train images for scalings."""
        images, count = self.images, self.study.validation_images
        return {
            "test": images.test,
            "validation": data.stratified_sample(images.images, images.validation, count, self.seed),
            "train": data.stratified_sample(images.images, images.train, 50 * len(self.names), self.seed),
        }

    def labels(self, split: str) -> torch.Tensor:
        """Classes of a split's images."""
        return torch.from_numpy(self.images.images.labels[self.splits[split]])

    def answers(self, module: nn.Module, expected: Input, split: str, classes: Sequence[int] = ()) -> torch.Tensor:
        """Logits [n, outputs] for the images of a split, of some classes where these are given."""
        x = self.tensor(expected, split)
        x = x[_rows(self.labels(split), classes)] if classes else x
        batches = ((part, torch.zeros(len(part), dtype=torch.int64)) for part in x.split(BATCH))
        return accuracies.logits(module.eval(), batches)[0]

    def tensor(self, expected: Input, split: str) -> torch.Tensor:
        """All images of a split, decoded once for every kind of input, in the format in which CNNs are quickest."""
        key = (repr(expected), split)
        if key not in self._tensors:
            found = self.loader(expected, self.splits[split]).all()[0]
            self._tensors[key] = found.contiguous(memory_format=torch.channels_last)
        return self._tensors[key]

    def loader(self, expected: Input, index: np.ndarray, batch: int = BATCH) -> data.Loader:
        """Batches of some images."""
        return data.Loader(self.images.images, index, expected.transform(), batch)


class Source:
    """A network that is taken apart."""

    def __init__(self, lab: Lab, name: str):
        self.lab, self.name = lab, name
        self.module, self.card = files.load_as(Card, lab.zoo / name, trust=True)
        self._evidence: dict[tuple[Score, int], Evidence] = {}
        self._components: dict[tuple[tuple[int, ...], str], Component] = {}

    @cached_property
    def coupling(self) -> Coupling:
        """Of the channels."""
        return couple(graph.trace(self.module, self.name, self.card.input.shape), self.name)

    @cached_property
    def scales(self) -> Scales:
        """What components of it cost."""
        return Scales(self.module, self.coupling)

    @cached_property
    def selected(self) -> list[np.ndarray]:
        """For each class its most confident correct train images."""
        stored = artifacts.read_tensors(self.lab.told / self.name / "selected.safetensors")
        return [stored[str(c)].numpy() for c in range(len(stored))]

    @cached_property
    def _logits(self) -> dict[str, torch.Tensor]:
        return artifacts.read_tensors(self.lab.told / self.name / "logits.safetensors")

    @cached_property
    def _ranks(self) -> torch.Tensor:
        images = self.lab.loader(self.card.input, self.lab.splits["train"])  # of all classes, as in the paper
        return hrank.importance(self.module, self.coupling, images)

    def evidence(self, score: Score, hard: str, outputs: Sequence[int]) -> Evidence:
        """What speaks for the channels, for some classes."""
        if score == "fpgm":
            return Evidence(self.coupling, scores=dict.fromkeys(outputs, fpgm.importance(self.module, self.coupling)))
        if score == "hrank":
            return Evidence(self.coupling, scores=dict.fromkeys(outputs, self._ranks))
        params = self.lab.params.model_copy(update={"score": score})
        for output in outputs:
            if (score, output) not in self._evidence:
                batches = {output: self.lab.loader(self.card.input, self.selected[output], params.batch_size)}
                found = scores.gather(self.module, self.coupling, batches, params, self.lab.seed)
                self._evidence[score, output] = found
        own = [self._evidence[score, output] for output in outputs]
        soft = {output: values for one in own for output, values in one.soft.items()}
        rated = {output: values for one in own for output, values in one.scores.items()}
        return Evidence(self.coupling, soft, rated, binary=hard == "binary")

    def answers(self, split: str, classes: Sequence[int] = ()) -> torch.Tensor:
        """Logits of all its classes, for all images of a split or those of some classes."""
        logits = self._logits[split]
        return logits[_rows(self.lab.labels(split), classes)] if classes else logits

    def component(self, classes: Sequence[int], way: Way) -> Component:
        """The component of a task's classes, made once."""
        key = (tuple(classes), repr(way))
        if key not in self._components:
            self._components[key] = self._made(classes, way)
        return self._components[key]

    def _made(self, classes: Sequence[int], way: Way) -> Component:
        source = making.Supplier(self.module, self.card, self._channels(classes, way))
        made = making.make(self.name, source, classes, self.lab.images, way.repair, self.lab.seed)
        return Component(made.module, made.recipe)

    def _channels(self, classes: Sequence[int], way: Way) -> Sized:
        """Of the official component, or of one of a size; by its score."""
        evidence, target = self.evidence(way.score, way.hard, classes), None
        if way.size != 1 or way.score != "contribution":
            target = way.size * self.official(classes) / self.scales.cost(range(self.coupling.count)).params, "params"
        return Sized(evidence, self.scales, self.lab.params.thresholds, target)

    def official(self, classes: Sequence[int]) -> int:
        """Parameters of the component at the authors' thresholds."""
        evidence = self.evidence("contribution", "binary", classes)
        return Sized(evidence, self.scales, self.lab.params.thresholds, None).cost(classes, self.name).params


def _rows(labels: torch.Tensor, classes: Sequence[int]) -> torch.Tensor:
    return torch.isin(labels, torch.tensor(classes)).nonzero().flatten()
