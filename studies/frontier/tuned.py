"""Stage `tuned`: the networks that are compared, tuned alike: frozen, those of a few budgets full, beside their
controls; and the same with their heads fitted to labels afterwards.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import torch

from lib.base.memo import Memo
from lib.base.progress import track
from lib.dery.assembly import built
from lib.images import data
from lib.params.assembly import Assembly
from lib.params.base import read
from lib.params.run import Run
from stages import SCRATCH, prepare, run
from studies.frontier.answers import FROZEN, FULL, STACKED, Answered, Answers, Round, choosers
from studies.frontier.params import Study
from studies.frontier.questions import Questions
from studies.frontier.school import Heard, School
from studies.frontier.task import task, views


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
    networks = {i: one for i, one in answers.networks.items() if one.role != "spare"}
    choosing = {
        way: school.questions.at(built.measures(own, read("assembly", Assembly), seed).choosing.index)
        for way, own in views(images, study.apart.get(zoo), seed).items()
    }
    frozen = {i: (one, school.frozen(i)) for i, one in networks.items()}
    labels, prior = school.questions.labels, read("assembly", Assembly).prior
    Answers(stacked(frozen, choosing, labels, prior), answers.rounds).save(out / FROZEN)
    if zoo not in study.full:
        return
    rounds = {way: some(own, study.full_budgets) for way, own in answers.rounds.items()}
    full = {i: (networks[i], school.full(i)) for i in needed(networks, rounds)}
    full |= enumerate(controls(school, networks, rounds), max(networks) + 1)
    Answers(stacked(full, choosing, labels, prior), rounds).save(out / FULL)


def stacked(
    heard: Mapping[int, tuple[Answered, Heard]],
    choosing: Mapping[str, np.ndarray],
    labels: np.ndarray,
    prior: float | None,
) -> dict[int, Answered]:
    """What networks say, and behind them what those say whose heads are fitted, once more, to labels.

    choosing: by way, where the images of these labels stand among all that were asked.
    labels: of all of them, int [n].
    prior: of the maps; None: none are fitted.
    """
    found = {i: replace(one, said=own.said) for i, (one, own) in heard.items()}
    pairs = list(product(heard.items(), choosing.items()))
    for (i, (one, own)), (way, index) in track(pairs, "stacking", len(pairs)):
        if one.role not in STACKED or not one.stands(way):
            continue
        said = own.again(index, torch.from_numpy(labels[index]), prior, one.way is not None)
        if said is not None:
            name = f"{found[i].name}, {'stacked' if one.way is None else 'again'}"
            crossed = one.way is None
            found[max(found) + 1] = Answered(name, STACKED[one.role], one.cost, said, way, crossed, one.chosen)
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


def controls(
    school: School, networks: Mapping[int, Answered], rounds: Mapping[str, Sequence[Round]]
) -> Iterable[tuple[Answered, Heard]]:
    """Our choices from random weights; every other network of the zoo, taught by its largest one."""
    for i in sorted({one.ours for own in rounds.values() for one in own}):
        own, name = networks[i], f"{networks[i].name}, from scratch"
        told = Answered(name, "scratch", own.cost, own.said, chosen=choosers(rounds, i))
        yield told, school.from_scratch(i)
    whole = sorted((i for i, one in networks.items() if one.role == "whole"), key=lambda i: networks[i].cost["params"])
    for i in whole[:-1]:
        told = replace(networks[i], role="distilled", name=f"{networks[i].name}, taught")
        yield told, school.taught(i, whole[-1])


if __name__ == "__main__":
    run(main)
