"""Stage `untrained`: ours and every rival within each budget, without training."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import nn

from lib.base import artifacts
from lib.base.errors import BrickyardError
from lib.base.memo import Memo
from lib.dery.assembly import edges, forms, gains, narrowing, prices
from lib.dery.assembly.fronts import Fronts
from lib.dery.assembly.material import Bricks, open_bricks
from lib.dery.assembly.ranking import put_together
from lib.dery.paths.problem import AssemblyProblem
from lib.dery.paths.tables import Kind
from lib.images import data
from lib.images.data import DataSet
from lib.network import files
from lib.network.load import Recipe
from lib.params.assembly import Assembly
from lib.params.base import read
from lib.params.components import Repair
from lib.params.contributions import Contributions
from lib.params.edges import Edges
from lib.params.run import Run
from lib.zoo.card import Card
from stages import SCRATCH, prepare, run
from studies.frontier.answers import Answered, Answers, Role, Round, choosers
from studies.frontier.field import NOWHERE, Choice, Field, Smaller, View, budgets, cost, title
from studies.frontier.params import Study
from studies.frontier.pruned import pruned
from studies.frontier.questions import KINDS
from studies.frontier.task import task, views


def main(zoo: str, dataset: Path, networks: Path, cut: Path, out: Path) -> None:
    """Writes answers of all networks that are compared to `out`, and all but spare ones to its folder `networks`, by
    number.

    zoo: its name.
    networks: folder of the zoo.
    cut: of the stage of that name.
    """
    study, seed = read("study", Study), read("run", Run).seed
    prepare(read("run", Run))
    names = study.zoos[zoo].networks
    images = task(data.load(dataset, SCRATCH), study.zoos[zoo], seed)
    found = bricks(networks, names, artifacts.read_json(cut / "cuts.json")["cuts"], images)
    fronts, fitted = Memo(SCRATCH / "fronts", 2**32), Memo(SCRATCH / "edges", 2**30)
    found = joined(found, fronts, fitted)
    repair = read("components.repair", Repair)
    asked = opened(narrowed(found, networks, study.widths, images, repair, fronts), images)
    smaller = list(pruned(networks, names, images, study.shares, repair, study.select_images, asked.questions))
    made = Comparison()
    ways = views(images, study.apart.get(zoo), seed)
    answers = made.answers({name: View(asked, divided, smaller) for name, divided in ways.items()}, study.budgets)
    answers.save(out)
    for i, choice in made.choices.items():
        if answers.networks[i].role != "spare":
            files.save(out / "networks" / str(i), *network(asked, choice))


def bricks(zoo: Path, names: Sequence[str], cuts: Mapping[str, Sequence[int]], images: DataSet) -> Bricks:
    """The networks of a zoo in blocks."""
    own = {name: tuple(cuts[name]) for name in names}
    params = read("assembly", Assembly)
    return open_bricks(zoo, names, own, images, read("edges", Edges), read("run", Run).seed, params, trust=True)


def joined(found: Bricks, fronts: Memo, fitted: Memo) -> Bricks:
    """With all edges; fronts, fitted: what was computed before."""
    every = [edge for card in found.cards for edge in edges.fit(found, card.name, Fronts(found, fronts), fitted)]
    return replace(found, edges={edge.joint: edge for edge in every})


def narrowed(
    found: Bricks, zoo: Path, widths: Sequence[float], images: DataSet, repair: Repair, fronts: Memo
) -> Bricks:
    """With narrow blocks, priced, of every network that has some; zoo: folder of the networks."""
    scores = read("contributions", Contributions)
    for card in found.cards:
        network, _ = files.load_as(Card, zoo / card.name, trust=True)
        try:
            made = narrowing.narrow(found, card.name, network, widths, images, scores, repair)
        except BrickyardError as error:
            print(error, file=sys.stderr)
            continue
        own = {(card.name, width): forms.opened(card, *one) for width, one in made.items()}
        alone = replace(found, narrow=own)
        found = replace(found, forms={**found.forms, card.name: forms.priced(alone, card.name, Fronts(alone, fronts))})
        found = replace(found, narrow={**found.narrow, **own})
    return found


def problem(found: Bricks) -> AssemblyProblem:
    """Of whole blocks, with scores and prices, from bricks with edges."""
    params = read("assembly", Assembly)
    priced = prices.assembly_problem(found, params, NOWHERE)
    return replace(priced, scores=gains.scores(found, params, None, Path()))


def opened(found: Bricks, images: DataSet) -> Field:
    """All that can be chosen, asked."""
    params, seed = read("assembly", Assembly), read("run", Run).seed
    kept, heard = Memo(SCRATCH / "prefixes", 2**32), Memo(SCRATCH / "heard", 2**32)
    return Field(found, problem(found), images, params, seed, kept, heard)


def network(asked: Field, choice: Choice) -> tuple[nn.Module, Recipe]:
    """What has been chosen, and its recipe."""
    if not isinstance(choice, Smaller):
        return put_together(asked.workshop, choice)
    recipe = choice.of.recipe
    return choice.of.folded(choice.stacked, asked.workshop.bricks.sample(recipe.input)), recipe


@dataclass
class Comparison:
    """Numbers the networks that are compared."""

    choices: dict[int, Choice] = field(default_factory=dict)
    _known: dict[int, Answered] = field(default_factory=dict)

    def answers(self, ways: Mapping[str, View], count: int) -> Answers:
        """Of all, and who is chosen within so many budgets of a kind."""
        way, first = next(iter(ways.items()))
        roles: dict[Role, Sequence[Choice]] = {"whole": first.whole, "ensemble": first.ensembles}
        roles["cut"] = [one for one in first.smaller if one.stacked is None]
        for role, choices in roles.items():
            for one in choices:
                self._number(way, first, one, role)
        rounds = {name: list(self._rounds(name, view, count)) for name, view in ways.items()}
        for name, view in ways.items():
            for one in view.rivals:
                self._number(name, view, one, "spare")
        for i, one in self._known.items():
            if one.role == "ours":
                self._known[i] = replace(one, chosen=choosers(rounds, i))
        return Answers(self._known, rounds)

    def _rounds(self, way: str, view: View, count: int) -> Iterator[Round]:
        for kind in KINDS:
            for limit in budgets([one.candidate.cost[kind] for one in view.whole], count):
                drawn = tuple(self._number(way, view, one, "drawn") for one in view.drawn(kind, limit))
                self._number(way, view, view.stronger(kind, limit), "stacked")
                yield Round(kind, limit, self._number(way, view, view.ours(kind, limit), "ours"), drawn)

    def _number(self, way: str, view: View, choice: Choice, role: Role) -> int:
        """Of a choice; it plays its first role, unless it is drawn later."""

        def made(one: Choice, fitted: str | None) -> tuple[Any, ...]:
            what = one.of if isinstance(one, Smaller) else (one.candidate.picks, one.treatments)
            return what, fitted

        fitted = None if choice.stacked is None else way
        for i, one in self.choices.items():
            if made(one, self._known[i].way) == made(choice, fitted):
                if role == "drawn" and self._known[i].role == "ours":
                    self._known[i] = replace(self._known[i], role=role)
                return i
        i = len(self._known)
        self.choices[i] = choice
        own: dict[Kind, float] = {kind: cost(choice)[kind] for kind in KINDS}
        self._known[i] = Answered(title(choice), role, own, view.said(choice), fitted)
        return i


if __name__ == "__main__":
    run(main)
