"""All that can be chosen from a zoo: its hybrids, its whole networks and their trees, asked once for all budgets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import torch

from lib.base import environment
from lib.base.memo import Memo
from lib.dery.assembly import built, joining
from lib.dery.assembly.built import Design, Measures
from lib.dery.assembly.grove import Grove
from lib.dery.assembly.joining import Joiner
from lib.dery.assembly.material import Bricks
from lib.dery.assembly.workshop import Workshop
from lib.dery.paths.problem import AssemblyProblem, Candidate
from lib.dery.paths.tables import Columns, Kind
from lib.images.data import DataSet
from lib.params.assembly import Assembly, Treatment
from lib.zoo.card import Input
from studies.cifar10.tree import BATCH, ChannelsLast, fused

KINDS: tuple[Kind, ...] = ("params", "macs")


@dataclass(frozen=True)
class Entrant:
    """A network as it enters a comparison.

    name: what it is made of.
    cost: of each kind.
    validation: accuracy on all images that choose, in percent.
    right: whether it is right on each test image, bool [n].
    """

    name: str
    cost: Mapping[Kind, float]
    validation: float
    right: np.ndarray

    @property
    def test(self) -> float:
        """Accuracy on the test images, in percent."""
        return 100 * float(self.right.mean())


class Field:
    """The members of a zoo's trees with their logits.

    bricks, problem: of the zoo; the problem has no limits.
    params: of assembly; they say which treatments are tried, and how many tails and trees there are.
    kept: what was fitted before.
    """

    def __init__(
        self, bricks: Bricks, problem: AssemblyProblem, images: DataSet, params: Assembly, seed: int, kept: Memo
    ) -> None:
        self.problem, self.params = replace(problem, limits={}), params
        self.measures: Measures = built.measures(images, params, seed)
        self.workshop = Workshop(bricks, environment.memory(), kept)
        every = [Candidate.of(self.problem, path) for path in product(range(len(bricks.cards)), repeat=bricks.sets)]
        self.known = joining.members(self.workshop, self.problem, every, params.treatments, self.measures)
        self.joiner = Joiner(self.problem, self.known, self.measures, params.tails)
        self.designs = joining.chains(self.known, self.measures)
        self._test: dict[tuple[Columns, Treatment], torch.Tensor] = {}

    def within(self, kind: Kind, limit: float) -> list[Design]:
        """What our choice has to choose from, within one budget: chains as they are treated, the best trees."""
        chains = [one for one in self.designs if one.candidate.cost[kind] <= limit]
        return chains + self.joiner.best(self.params.trees, {kind: limit})

    def ours(self, kind: Kind, limit: float) -> Design:
        """The best of them on the picking images, ties by likelihood."""
        labels = self.measures.picking.labels
        return max(self.within(kind, limit), key=lambda one: built.judge(_known(one), labels))

    def rivals(self) -> list[Design]:
        """Every whole network, and every set of them that may be averaged."""
        whole = [one for one in self.known if len(set(one.path)) == 1]
        joiner = Joiner(self.problem, whole, self.measures, self.params.tails)
        return joining.chains(whole, self.measures) + joiner.best(2 ** len(whole))

    def ask(self, designs: Sequence[Design]) -> None:
        """Finds the test logits of all tails of some designs that are not known yet."""
        tails = {tail for design in designs for tail in self._tails(design)} - self._test.keys()
        bricks, test = self.workshop.bricks, self.measures.test
        made = {str(tail): self.workshop.reassemble(bricks.pick(tail[0]), tail[1]) for tail in sorted(tails)}

        def images(expected: Input) -> ChannelsLast:
            return ChannelsLast(test.data.images, test.index, expected.transform(), BATCH)

        said = Grove.of(bricks, made, fused).answers(images)
        self._test |= {tail: said[str(tail)] for tail in tails}

    def entrant(self, design: Design) -> Entrant:
        """A design whose tails have been asked."""
        tails = self._tails(design)
        said = torch.stack([self._test[tail] for tail in tails]).mean(0)
        own = {(one.path, one.treatment): one for one in self.known}
        chosen_by = torch.stack([torch.cat([own[tail].choosing, own[tail].picking]) for tail in tails]).mean(0)
        labels = torch.cat([self.measures.choosing.labels, self.measures.picking.labels])
        right = (said.argmax(1) == self.measures.test.labels).numpy()
        name = " + ".join(" > ".join(pick.networks) for pick in design.candidate.picks)
        return Entrant(name, design.candidate.cost, built.judge(chosen_by, labels)[0], right)

    def _tails(self, design: Design) -> list[tuple[Columns, Treatment]]:
        paths = [tuple(self.problem.names.index(n) for n in pick.networks) for pick in design.candidate.picks]
        return list(zip(paths, design.treatments, strict=True))


def _known(design: Design) -> torch.Tensor:
    assert design.logits is not None
    return design.logits


def budgets(costs: Sequence[float], count: int) -> list[float]:
    """So many, log-spaced, from the smallest of the zoo networks' costs to the sum of all."""
    return [float(np.ceil(limit)) for limit in np.geomspace(min(costs), sum(costs), count)]
