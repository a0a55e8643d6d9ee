"""Stage `tuned`: the networks that are compared, tuned alike: frozen, those of a few budgets full, beside their
controls; and the same with their heads fitted to labels afterwards.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
import torch
from torch import nn

from lib.base import artifacts, memo
from lib.base.memo import Memo
from lib.base.progress import track
from lib.dery import tuning
from lib.dery.assembly import built
from lib.dery.combining import Combiner, is_stackable, judge, spoken
from lib.fit import stacking
from lib.images import data
from lib.images.data import DataSet, Loader, stratified_sample
from lib.network import load
from lib.network.load import Recipe
from lib.network.modules import ReassembledNetwork
from lib.network.reassembled import Reassembled
from lib.params.assembly import Assembly
from lib.params.base import read
from lib.params.finetune import Finetune
from lib.params.run import Run
from lib.params.training import Training
from lib.trace.duplicate import duplicate
from lib.training import fit
from lib.zoo.teachers import Teacher
from stages import SCRATCH, prepare, run
from studies.cifar10.tree import fused
from studies.frontier.answers import FROZEN, FULL, STACKED, Answered, Answers, Round
from studies.frontier.field import Questions
from studies.frontier.params import Study
from studies.frontier.task import task, views
from studies.frontier.untrained import ask


def main(zoo: str, dataset: Path, untrained: Path, out: Path) -> None:
    """Writes what networks answer after frozen tuning and, where the zoo's learn whole, after that to folders of `out`.

    zoo: its name.
    untrained: folder of its networks and their answers.
    """
    study, seed = read("study", Study), read("run", Run).seed
    prepare(read("run", Run))
    images = task(data.load(dataset, SCRATCH), study.zoos[zoo], seed)
    school = School(images, Questions(images), untrained / "networks", study, Memo(SCRATCH / "tuned", 2**34))
    answers = Answers.load(untrained)
    choosing = {
        way: school.questions.at(built.measures(own, read("assembly", Assembly), seed).choosing.index)
        for way, own in views(images, study.apart.get(zoo), seed).items()
    }
    frozen = {i: (one, school.frozen(i)) for i, one in answers.networks.items()}
    labels, ridge = school.questions.labels, read("assembly", Assembly).ridge
    Answers(stacked(frozen, choosing, labels, ridge), answers.rounds).save(out / FROZEN)
    if zoo not in study.full:
        return
    rounds = {way: some(own, study.full_budgets) for way, own in answers.rounds.items()}
    full = {i: (answers.networks[i], school.full(i)) for i in needed(answers.networks, rounds)}
    full |= enumerate(school.controls(answers.networks, rounds), max(answers.networks) + 1)
    Answers(stacked(full, choosing, labels, ridge), rounds).save(out / FULL)


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

    def again(self, choosing: np.ndarray, labels: torch.Tensor, ridge: float | None, known: bool) -> np.ndarray | None:
        """The same when maps have been fitted to the labels of the choosing images, if these are answered better so by
        maps that the others of them have fitted, which is what is told of them.

        known: whether these labels have fitted its heads before, and so cannot tell: then always where maps are tried.
        """
        own = self.logits[:, choosing]
        if not Combiner(labels, ridge).tried(len(own) * own.shape[2], self.foldable):
            return None
        assert ridge is not None
        others = stacking.out_of_fold(own, labels, ridge)
        if not known and judge(others, labels)[0] <= judge(own.mean(0), labels)[0]:
            return None
        said = stacking.stack(own, labels, ridge)(self.logits)
        said[choosing] = others
        return said.argmax(1).to(torch.uint8).numpy()


def stacked(
    heard: Mapping[int, tuple[Answered, Heard]],
    choosing: Mapping[str, np.ndarray],
    labels: np.ndarray,
    ridge: float | None,
) -> dict[int, Answered]:
    """What networks say, and behind them what those say whose heads are fitted, once more, to labels.

    choosing: by way, where the images of these labels stand among all that were asked.
    labels: of all of them, int [n].
    ridge: of the maps; None: none are fitted.
    """
    found = {i: replace(one, said=own.said) for i, (one, own) in heard.items()}
    pairs = list(product(heard.items(), choosing.items()))
    for (i, (one, own)), (way, index) in track(pairs, "stacking", len(pairs)):
        if one.role not in STACKED or one.way not in (None, way):
            continue
        said = own.again(index, torch.from_numpy(labels[index]), ridge, one.way is not None)
        if said is not None:
            name = f"{found[i].name}, {'stacked' if one.way is None else 'again'}"
            found[max(found) + 1] = Answered(name, STACKED[one.role], one.cost, said, way, one.way is None)
    return found


def some(rounds: Sequence[Round], count: int) -> list[Round]:
    """So many rounds of each kind, evenly spaced, the last among them."""
    found = []
    for kind in dict.fromkeys(one.kind for one in rounds):
        own = [one for one in rounds if one.kind == kind]
        step = max(1, len(own) // count)
        found += own[len(own) - 1 - step * (min(count, len(own)) - 1) :: step]
    return found


def needed(networks: Mapping[int, Answered], rounds: Mapping[str, Sequence[Round]]) -> list[int]:
    """Those that are chosen in some rounds, and all that may be chosen in any."""
    chosen = {i for own in rounds.values() for one in own for i in (one.ours, *one.drawn)}
    return [i for i, one in networks.items() if i in chosen or one.role in ("whole", "ensemble", "cut", "stacked")]


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

    def controls(
        self, networks: Mapping[int, Answered], rounds: Mapping[str, Sequence[Round]]
    ) -> Iterable[tuple[Answered, Heard]]:
        """Our choices from random weights, for as many epochs; every other network of the zoo, taught by its largest
        one while everything learns.
        """
        params = read("finetune", Finetune)
        settings = tuning.from_scratch({FROZEN: params.frozen, FULL: params.full})
        for i in sorted({one.ours for own in rounds.values() for one in own}):
            _, recipe = self._opened(i)
            assert isinstance(recipe, Reassembled)
            network = tuning.untrained(recipe, read("run", Run).seed)
            heard = self._heard(self._learnt(network, recipe, settings, None), recipe)
            told = Answered(f"{networks[i].name}, from scratch", "scratch", networks[i].cost, networks[i].said)
            yield told, heard
        whole = sorted(
            (i for i, one in networks.items() if one.role == "whole"), key=lambda i: networks[i].cost["params"]
        )
        settings = params.full.model_copy(update={"distillation": self.study.distillation})
        for i in whole[:-1]:
            network, recipe = self._frozen(i)
            heard = self._heard(self._learnt(network, recipe, settings, self._frozen(whole[-1])), recipe)
            yield replace(networks[i], role="distilled", name=f"{networks[i].name}, taught"), heard

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
        if not isinstance(network, ReassembledNetwork):
            return False
        return is_stackable(network, next(iter(self.questions.loader(recipe.input)))[0][:1])


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


if __name__ == "__main__":
    run(main)
