"""Networks taken apart, repaired and asked; what takes time is kept in the work folder by what it depends on."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from benchmarks import workplace
from benchmarks.mda import fpgm
from lib.base import artifacts
from lib.base.code import digest
from lib.base.resume import key_of
from lib.channels.channels import Coupling
from lib.channels.coupling import couple
from lib.channels.cutting import Scales
from lib.images import data
from lib.mda import accuracies
from lib.mda.components import component, components
from lib.mda.components.sizing import Sized
from lib.mda.contributions import contribution, scores
from lib.mda.contributions.masks import Evidence
from lib.network import files
from lib.params.base import read
from lib.params.components import Repair
from lib.params.contributions import Contributions
from lib.params.run import Run
from lib.trace import graph
from lib.zoo import networks as zoo

VALIDATION = 2000  # images on which something is chosen
BATCH = 100  # images
MADE = "seconds.json"

Score = Literal["contribution", "taylor", "magnitude", "random", "fpgm"]


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
class Wanted:
    """A component: of which network, with which classes, and how it comes about. splits: on whose images it is asked;
    everywhere: on those of other classes, too.
    """

    source: str
    classes: tuple[int, ...]
    way: Way
    splits: tuple[str, ...] = ("test",)
    everywhere: bool = False


@dataclass(frozen=True)
class Component:
    """seconds: of the CPU, that the contributions took, and cutting and repair."""

    module: nn.Module
    recipe: components.Recipe
    kept: dict[str, tuple[int, ...]]
    seconds: tuple[float, float]


class Lab:
    """The images, and the networks by name; training: the data set on which those that are missing are trained;
    few: train images among which those for contributions are selected, if not all.
    """

    def __init__(self, training: Path = workplace.DATASET, few: int | None = None) -> None:
        self.training, self.few = training, few
        self.images = workplace.split()
        self.seed = read("run", Run).seed
        self.params = read("contributions", Contributions)
        self.names = self.images.images.classes
        self._sources: dict[str, Source] = {}
        self._tensors: dict[tuple[str, str], torch.Tensor] = {}

    def source(self, name: str) -> "Source":
        """A zoo network, made where it is missing."""
        if name not in self._sources:
            self._sources[name] = Source(self, name, *zoo.load(workplace.network(name, self.training), trust=True))
        return self._sources[name]

    @cached_property
    def splits(self) -> dict[str, np.ndarray]:
        """Index arrays: all test images; samples of the validation images, and of train images for scalings."""
        images = self.images
        return {
            "test": images.test,
            "validation": data.stratified_sample(images.images, images.validation, VALIDATION, self.seed),
            "train": data.stratified_sample(images.images, images.train, 50 * len(self.names), self.seed),
        }

    @cached_property
    def train(self) -> np.ndarray:
        """Train images among which those for contributions are selected."""
        images = self.images
        if self.few is None or self.few >= len(images.train):
            return images.train
        return data.stratified_sample(images.images, images.train, self.few, self.seed)

    @property
    def fewer(self) -> dict[str, Any]:
        """What that changes, for keys; nothing where it is all of them."""
        return {} if self.few is None else {"few": [self.few, self.seed]}

    def labels(self, split: str) -> torch.Tensor:
        """Classes of a split's images."""
        return torch.from_numpy(self.images.images.labels[self.splits[split]])

    def answers(self, module: nn.Module, recipe: Any, split: str, classes: Sequence[int] = ()) -> torch.Tensor:
        """Logits [n, outputs] for the images of a split, of some classes where these are given.

        recipe: describes the network (a card, or a component's or assembly's recipe).
        """
        rows = _rows(self.labels(split), classes) if classes else torch.arange(len(self.splits[split]))
        key = key_of(
            {
                "network": _plain(recipe.to_dict()),
                "weights": artifacts.tensor_checksum(module.state_dict()),
                "images": [self.images.images.checksum, self.splits[split][rows.numpy()].tolist()],
            }
        )
        file = Path("logits") / f"{key}.safetensors"
        if not file.exists():
            x = self.tensor(recipe.input, split)[rows]
            batches = ((part, torch.zeros(len(part))) for part in x.split(BATCH))
            artifacts.write_tensors(file, {"logits": accuracies.logits(module.eval(), batches)[0]})
        return artifacts.read_tensors(file)["logits"]

    def tensor(self, expected: zoo.Input, split: str) -> torch.Tensor:
        """All images of a split, decoded once for every kind of input."""
        key = (repr(expected), split)
        if key not in self._tensors:
            self._tensors[key] = self.loader(expected, self.splits[split]).all()[0]
        return self._tensors[key]

    def loader(self, expected: zoo.Input, index: np.ndarray, batch: int = BATCH) -> data.Loader:
        """Batches of some images."""
        return data.Loader(self.images.images, index, expected.transform(), batch)


class Source:
    """A network that is taken apart."""

    def __init__(self, lab: Lab, name: str, module: nn.Module, card: zoo.Card):
        self.lab, self.name, self.module, self.card = lab, name, module, card
        self._evidence: dict[tuple[Score, int], Evidence] = {}

    @cached_property
    def checksum(self) -> str:
        """Of the weights."""
        return artifacts.tensor_checksum(self.module.state_dict())

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
        images, count, train = self.lab.images.images, self.lab.params.images_per_class, self.lab.train
        told = {
            "weights": self.checksum,
            "images": images.checksum,
            "count": count,
            "code": _code(contribution.__file__),
        }
        key = key_of({**told, **self.lab.fewer})
        file = Path("selected") / f"{key}.safetensors"
        if not file.exists():
            batches = self.lab.loader(self.card.input, train)
            found = contribution.select(self.module, batches, count, self.card.classes, self.name)
            named = {str(c): torch.from_numpy(train[positions.numpy()]) for c, positions in enumerate(found)}
            artifacts.write_tensors(file, named)
        stored = artifacts.read_tensors(file)
        return [stored[str(c)].numpy() for c in range(len(stored))]

    def evidence(self, score: Score, hard: str, outputs: Sequence[int]) -> Evidence:
        """What speaks for the channels, for some classes."""
        if score == "fpgm":
            return Evidence(self.coupling, scores=dict.fromkeys(outputs, fpgm.importance(self.module, self.coupling)))
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
        logits = self.lab.answers(self.module, self.card, split)
        return logits[_rows(self.lab.labels(split), classes)] if classes else logits

    def folder(self, classes: Sequence[int], way: Way) -> Path:
        """Where a component is kept; made when `MADE` is in it."""
        how = asdict(replace(way, repair=None)) | {"repair": way.repair.model_dump()}  # type: ignore[arg-type]
        thresholds = {kind: found.model_dump() for kind, found in self.lab.params.thresholds.items()}
        key = key_of(
            {
                "weights": self.checksum,
                "images": [self.lab.images.images.checksum, self.lab.params.images_per_class],
                "classes": list(classes),
                "way": how,
                "thresholds": thresholds,
                **self.lab.fewer,
                "seed": self.lab.seed,
                "code": _code(__file__, fpgm.__file__),
            }
        )
        return Path("components") / key

    def component(self, classes: Sequence[int], way: Way) -> Component:
        """The component of a task's classes."""
        folder = self.folder(classes, way)
        if not (folder / MADE).exists():
            module, recipe, seconds = self._made(classes, way)
            files.save(folder, module, recipe)
            artifacts.write_json(folder / MADE, {"seconds": seconds})
        module, recipe = files.load(folder, components.Recipe, trust=True)
        return Component(module, recipe, recipe.kept, tuple(artifacts.read_json(folder / MADE)["seconds"]))

    def _made(self, classes: Sequence[int], way: Way) -> tuple[nn.Module, components.Recipe, tuple[float, float]]:
        _ = self.selected  # found before the clock starts
        started = time.process_time()
        channels = self._channels(classes, way)
        gathered = time.process_time()
        supplier = component.Supplier(self.module, self.card, channels)
        made = component.make(self.name, supplier, classes, self.lab.images, way.repair, self.lab.seed)
        return made.module, made.recipe, (gathered - started, time.process_time() - gathered)

    def _channels(self, classes: Sequence[int], way: Way) -> Sized:
        """Of the official component, or of one of a size; by its score."""
        evidence, target = self.evidence(way.score, way.hard, classes), None
        if way.size != 1 or way.score != "contribution":
            target = way.size * self.official(classes) / self.scales.cost(range(self.coupling.count)).params, "params"
        return Sized(evidence, self.scales, self.lab.params.thresholds, target)

    def official(self, classes: Sequence[int]) -> int:
        """Parameters of the component at the authors' thresholds."""
        channels = Sized(
            self.evidence("contribution", "binary", classes), self.scales, self.lab.params.thresholds, None
        )
        return channels.cost(classes, self.name).params


def _rows(labels: torch.Tensor, classes: Sequence[int]) -> torch.Tensor:
    return torch.isin(labels, torch.tensor(classes)).nonzero().flatten()


def _plain(described: dict[str, Any]) -> dict[str, Any]:
    """What a network computes depends on, of its description."""
    return {key: value for key, value in described.items() if key in ("architecture", "kept", "parts", "form", "input")}


@cache
def _code(*files: str) -> str:
    """SHA-256 of the code that these files run."""
    return digest(map(Path, files))
