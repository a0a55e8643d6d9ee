"""Where networks learn, and what they answer afterwards."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from lib.base import artifacts, memo
from lib.base.memo import Memo
from lib.dery import tuning
from lib.dery.combining import Combiner, is_stackable, judge, last_layer, spoken
from lib.fit import stacking
from lib.images.data import DataSet, Loader, stratified_sample
from lib.network import load
from lib.network.load import Recipe
from lib.network.modules import ReassembledNetwork
from lib.network.reassembled import Reassembled
from lib.params.base import read
from lib.params.finetune import Finetune
from lib.params.run import Run
from lib.params.training import Training
from lib.trace.duplicate import duplicate
from lib.training import fit
from lib.zoo.teachers import Teacher
from studies.cifar10.tree import fused
from studies.frontier.answers import FROZEN, FULL
from studies.frontier.params import Study
from studies.frontier.questions import Questions, ask


@dataclass(frozen=True)
class Heard:
    """The logits of a network's tails, whose mean is what it answers, [t, n, classes]; foldable: whether linear maps of
    them can become part of its heads.
    """

    logits: torch.Tensor
    foldable: bool

    @property
    def said(self) -> np.ndarray:
        """The class that it answers for each image, [n]."""
        return self.logits.mean(0).argmax(1).to(torch.uint8).numpy()

    def again(self, choosing: np.ndarray, labels: torch.Tensor, prior: float | None, known: bool) -> np.ndarray | None:
        """The same when maps have been fitted to the labels of the choosing images, if these are answered better so by
        maps that the others of them have fitted, which is what is told of them.

        known: whether these labels have fitted its heads before, and so cannot tell: then always where maps are tried.
        """
        own = self.logits[:, choosing]
        if not Combiner(labels, prior).tried(len(own) * own.shape[2], self.foldable):
            return None
        assert prior is not None
        others = stacking.out_of_fold(own, labels, prior)
        if not known and judge(others, labels)[0] <= judge(own.mean(0), labels)[0]:
            return None
        said = stacking.stack(own, labels, prior)(self.logits)
        said[choosing] = others
        return said.argmax(1).to(torch.uint8).numpy()


@dataclass(frozen=True)
class School:
    """Where networks learn.

    images: of the task.
    questions: that they answer afterwards.
    networks: folder of all of them, by number.
    kept: what has been learnt before.
    """

    images: DataSet
    questions: Questions
    networks: Path
    study: Study
    kept: Memo

    def frozen(self, i: int) -> Heard:
        """What network i answers when stitches and heads have learnt."""
        return self._heard(*self._frozen(i))

    def full(self, i: int) -> Heard:
        """The same when then everything has."""
        network, recipe = self._frozen(i)
        return self._heard(self._learnt(network, recipe, read("finetune", Finetune).full, None), recipe)

    def from_scratch(self, i: int) -> Heard:
        """What it answers when it has learnt from random weights, for as many epochs."""
        params = read("finetune", Finetune)
        settings = tuning.from_scratch({FROZEN: params.frozen, FULL: params.full})
        recipe, seed = self._opened(i)[1], read("run", Run).seed
        if isinstance(recipe, Reassembled):
            network: nn.Module = tuning.untrained(recipe, seed)
        else:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                network = recipe.build(trust=True)
        return self._heard(self._learnt(network, recipe, settings, None), recipe)

    def taught(self, i: int, by: int) -> Heard:
        """What it answers when after stitches and heads everything has learnt, also from what network `by` says."""
        settings = read("finetune", Finetune).full.model_copy(update={"distillation": self.study.distillation})
        network, recipe = self._frozen(i)
        return self._heard(self._learnt(network, recipe, settings, self._frozen(by)), recipe)

    def _opened(self, i: int) -> tuple[nn.Module, Recipe]:
        return load.load(self.networks / str(i), trust=True)

    def _frozen(self, i: int) -> tuple[nn.Module, Recipe]:
        network, recipe = self._opened(i)
        heads = network.new_parameters() if isinstance(network, ReassembledNetwork) else head(network)
        return self._learnt(network, recipe, read("finetune", Finetune).frozen, None, heads), recipe

    def _learnt(
        self,
        network: nn.Module,
        recipe: Recipe,
        settings: Training,
        teacher: tuple[nn.Module, Recipe] | None,
        parameters: Sequence[nn.Parameter] | None = None,
    ) -> nn.Module:
        """Trains a network of one's own, in place; parameters: those that learn, all by default."""
        images, seed = self.images, read("run", Run).seed
        count = self.study.full_images if parameters is None else self.study.frozen_images
        index = stratified_sample(images.images, images.train, count, seed)
        taught = None if teacher is None else artifacts.tensor_checksum(teacher[0].state_dict())
        own = [artifacts.tensor_checksum(network.state_dict()), recipe.to_dict(), settings.model_dump(), taught]
        key = memo.key(Path(__file__), *own, images.images.checksum, index.tolist(), seed, parameters is None)
        if (found := self.kept.get(key)) is not None:
            network.load_state_dict(found)
            return network.eval()
        learning = network.to(memory_format=torch.channels_last)
        fit.fit(
            learning,
            Loader(images.images, index, recipe.input.transform(), settings.batch_size),
            settings,
            seed,
            parameters=parameters,
            teacher=None if teacher is None else Teacher([teacher], recipe.classes, recipe.input),
            what="frozen tuning" if parameters is not None else "full tuning",
        )
        self.kept.put(key, {name: value.contiguous() for name, value in learning.state_dict().items()})
        return learning

    def _heard(self, network: nn.Module, recipe: Recipe) -> Heard:
        weights, index = artifacts.tensor_checksum(network.state_dict()), self.questions.index.tolist()
        key = memo.key(Path(__file__), "heard", weights, recipe.to_dict(), self.images.images.checksum, index)
        found = self.kept.get(key)
        if found is None:
            found = {"logits": self._logits(network, recipe), "foldable": torch.tensor(self._foldable(network, recipe))}
            self.kept.put(key, found)
        return Heard(found["logits"], bool(found["foldable"]))

    @torch.inference_mode()
    def _logits(self, network: nn.Module, recipe: Recipe) -> torch.Tensor:
        asked = quicker(network)
        if not isinstance(asked, ReassembledNetwork):
            return ask(asked, recipe.input, self.questions)[None]
        assert isinstance(recipe, Reassembled)
        return torch.cat([spoken(asked, recipe, x) for x, _ in self.questions.loader(recipe.input)], 1)

    def _foldable(self, network: nn.Module, recipe: Recipe) -> bool:
        x = next(iter(self.questions.loader(recipe.input)))[0][:1]
        if isinstance(network, ReassembledNetwork):
            return is_stackable(network, x)
        return last_layer(network, x) is not None


def head(network: nn.Module) -> list[nn.Parameter]:
    """The parameters of the last linear layer."""
    return list([module for module in network.modules() if isinstance(module, nn.Linear)][-1].parameters())


def quicker(network: nn.Module) -> nn.Module:
    """A copy of a network that computes the same, more quickly."""
    copy = duplicate(network).eval()
    if isinstance(copy, ReassembledNetwork):
        for name in copy.recipe.names:
            setattr(copy, name, fused(getattr(copy, name)))
    return copy.to(memory_format=torch.channels_last)
