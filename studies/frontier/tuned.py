"""Stage `tuned`: the networks that are compared, tuned alike: frozen, those of a few budgets full, beside their
controls.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from lib.base import artifacts, memo
from lib.base.memo import Memo
from lib.dery import tuning
from lib.images import data
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
from stages import SCRATCH, prepare, run
from studies.cifar10.tree import fused
from studies.frontier.answers import FROZEN, FULL, Answered, Answers, Round
from studies.frontier.field import Questions
from studies.frontier.params import Study
from studies.frontier.task import task
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
    frozen = {i: replace(one, said=school.frozen(i)) for i, one in answers.networks.items()}
    Answers(frozen, answers.rounds).save(out / FROZEN)
    if zoo not in study.full:
        return
    rounds = {way: some(own, study.full_budgets) for way, own in answers.rounds.items()}
    wanted = needed(answers.networks, rounds)
    found = {i: replace(answers.networks[i], said=school.full(i)) for i in wanted}
    controls = list(school.controls(answers.networks, rounds))
    found |= {max(answers.networks) + 1 + i: one for i, one in enumerate(controls)}
    Answers(found, rounds).save(out / FULL)


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

    def frozen(self, i: int) -> np.ndarray:
        """The classes that network i answers when stitches and heads have learnt, [n]."""
        return self._said(*self._frozen(i))

    def full(self, i: int) -> np.ndarray:
        """The same when then everything has."""
        network, recipe = self._frozen(i)
        return self._said(self._learnt(network, recipe, read("finetune", Finetune).full, None), recipe)

    def controls(self, networks: Mapping[int, Answered], rounds: Mapping[str, Sequence[Round]]) -> Iterable[Answered]:
        """Our choices from random weights, for as many epochs; every other network of the zoo, taught by its largest
        one while everything learns.
        """
        params = read("finetune", Finetune)
        settings = tuning.from_scratch({FROZEN: params.frozen, FULL: params.full})
        for i in sorted({one.ours for own in rounds.values() for one in own}):
            _, recipe = self._opened(i)
            assert isinstance(recipe, Reassembled)
            network = tuning.untrained(recipe, read("run", Run).seed)
            said = self._said(self._learnt(network, recipe, settings, None), recipe)
            yield replace(networks[i], role="scratch", name=f"{networks[i].name}, from scratch", said=said)
        whole = sorted(
            (i for i, one in networks.items() if one.role == "whole"), key=lambda i: networks[i].cost["params"]
        )
        settings = params.full.model_copy(update={"distillation": self.study.distillation})
        for i in whole[:-1]:
            network, recipe = self._frozen(i)
            said = self._said(self._learnt(network, recipe, settings, self._frozen(whole[-1])), recipe)
            yield replace(networks[i], role="distilled", name=f"{networks[i].name}, taught", said=said)

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

    def _said(self, network: nn.Module, recipe: Recipe) -> np.ndarray:
        weights = artifacts.tensor_checksum(network.state_dict())
        key = memo.key(Path(__file__), "said", weights, recipe.to_dict(), self.images.images.checksum)
        found = self.kept.get(key)
        if found is None:
            found = {"said": ask(quicker(network), recipe.input, self.questions).argmax(1).to(torch.uint8)}
            self.kept.put(key, found)
        return found["said"].numpy()


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
