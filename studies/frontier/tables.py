"""Stage `tables`: who wins in a zoo, at every budget, under every treatment that has been measured."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from lib.dery.assembly import built
from lib.images import data
from lib.images.data import DataSet
from lib.params.assembly import Assembly
from lib.params.base import read
from lib.params.run import Run
from stages import SCRATCH, prepare, run
from studies.frontier.answers import (
    FROZEN,
    FULL,
    OURS,
    RIVALS,
    STRONGER,
    UNTRAINED,
    Answered,
    Answers,
    Role,
    Round,
)
from studies.frontier.params import Study
from studies.frontier.questions import Entrant, Questions
from studies.frontier.task import APART, SEEN, task, views
from studies.frontier.verdict import Contest, figures, on_either, on_picking, sheet, verdict
from studies.sheet import Result, Sheet

WORDS = {UNTRAINED: "without training", FROZEN: "after frozen tuning", FULL: "after full tuning"}
WAYS = {SEEN: "", APART: ", chosen on test images set apart"}


def main(zoo: str, dataset: Path, untrained: Path, tuned: Path, metrics: Path) -> None:
    """Writes the tables of a zoo to `metrics`.

    zoo: its name.
    untrained, tuned: folders of those stages, all zoos; of one that is not there nothing is said.
    """
    study, seed = read("study", Study), read("run", Run).seed
    prepare(read("run", Run))
    images = task(data.load(dataset, SCRATCH), study.zoos[zoo], seed)
    answers = {UNTRAINED: Answers.load(untrained / zoo)}
    for protocol in (FROZEN, FULL):
        if (folder := tuned / zoo / protocol).exists():
            answers[protocol] = Answers.load(folder)
    result(zoo, images, answers, study).save(metrics)


def result(zoo: str, images: DataSet, answers: Mapping[str, Answers], study: Study) -> Result:
    """Figures and points for a plot by way and treatment; a sheet each."""
    seed, asked = read("run", Run).seed, Questions(images)
    found, sheets = dict[str, Any](), list[Sheet]()
    for way, divided in views(images, study.apart.get(zoo), seed).items():
        picking = built.measures(divided, read("assembly", Assembly), seed).picking.index
        for treatment, own in answers.items():
            rounds = own.rounds[way]
            held = list(contests(own.networks, rounds, asked, divided, treatment, picking, way))
            judged = [verdict(one, seed) for one in held]
            pick = on_picking if treatment == UNTRAINED else on_either
            stronger = [verdict(replace(one, rivals=one.stronger), seed, pick) for one in held]
            points = [
                {"kind": one.contest.kind, "limit": one.contest.limit, "ours": one.contest.ours.test}
                | {"rival": one.rival.test, "oracle": one.oracle.test}
                for one in judged
            ]
            told = {**figures(judged), "stronger": figures(stronger), "points": points}
            found.setdefault(way, {})[treatment] = told
            sheets.append(sheet(f"Zoo {zoo} {WORDS[treatment]}{WAYS[way]}: test accuracy within a budget", judged))
            more = f"Zoo {zoo} {WORDS[treatment]}{WAYS[way]}, beside rivals with stacked heads, too"
            sheets.append(sheet(more, stronger))
    return Result(found, tuple(sheets))


def contests(
    networks: Mapping[int, Answered],
    rounds: Sequence[Round],
    asked: Questions,
    images: DataSet,
    treatment: str,
    picking: np.ndarray,
    way: str = SEEN,
) -> Iterator[Contest]:
    """One a budget.

    networks: by number.
    rounds: their choices.
    asked: the images that they have answered for.
    images: the same, divided.
    treatment: of the networks; what has been tuned is chosen again from our choices at all budgets, whole networks and
        their ensembles and what MDA has cut of them, by `on_either`.
    picking: the validation images that have fitted nothing.
    way: of dividing the images; what another one has chosen, or whose labels have fitted its heads, stays outside.
    """
    networks = {i: one for i, one in networks.items() if one.stands(way)}
    seen = {i: asked.entrant(one.name, one.cost, one.said, images, picking, one.fitted) for i, one in networks.items()}
    ours = {one.ours for one in rounds} | {i for i, one in networks.items() if one.role in OURS}

    def playing(roles: Sequence[Role]) -> list[Entrant]:
        return [seen[i] for i, one in networks.items() if one.role in roles]

    rivals, stronger = playing(RIVALS), playing(STRONGER)
    for one in rounds:

        def within(entrants: Sequence[Entrant], own: Round = one) -> list[Entrant]:
            return [entrant for entrant in entrants if entrant.cost[own.kind] <= own.limit]

        chosen = seen[one.ours]
        if treatment != UNTRAINED:
            chosen = on_either(within([seen[i] for i in sorted(ours)]))
        yield Contest(one.kind, one.limit, chosen, tuple(within(rivals)), tuple(within(stronger)))


if __name__ == "__main__":
    run(main)
