"""All that can be chosen from a zoo: hybrids, whole networks, also cut ones, and their trees, asked once for all."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from lib.base import environment, memo
from lib.base.artifacts import tensor_checksum
from lib.base.memo import Memo
from lib.dery.assembly import built, grove, joining
from lib.dery.assembly.built import Design, Measure
from lib.dery.assembly.grove import Grove
from lib.dery.assembly.joining import Joiner, Member
from lib.dery.assembly.material import Bricks
from lib.dery.assembly.proxies.naswot import naswot
from lib.dery.assembly.reassembly import Made
from lib.dery.assembly.widened import widened
from lib.dery.assembly.workshop import Workshop
from lib.dery.combining import Combiner, is_stackable
from lib.dery.paths.exchange import exchange
from lib.dery.paths.problem import AssemblyProblem, Candidate
from lib.dery.paths.tables import Columns, Kind
from lib.fit.stacking import Stacked
from lib.images.data import DataSet
from lib.network.blocks import Pick
from lib.params.assembly import Assembly, Treatment
from lib.zoo.card import Input
from studies.cifar10.tree import fused
from studies.frontier.pruned import Pruned
from studies.frontier.questions import Entrant, Questions

NOWHERE = Path("latency.json")  # nothing is measured


@dataclass(frozen=True)
class Known:
    """A chain under one treatment and its logits on all images that are asked; stackable: see `Member`."""

    candidate: Candidate
    path: Columns
    treatment: Treatment
    input: Input
    said: Float[torch.Tensor, "n classes"]
    stackable: bool


class Field:
    """The members of a zoo's trees with their logits.

    bricks: of the zoo; there may be narrow blocks.
    entire: the problem of its whole blocks, without limits; `problem` has what `bricks` have beside them.
    params: of assembly; they say which treatments are tried, and how many tails and trees there are.
    kept: what was fitted before.
    heard: what was answered before.
    """

    def __init__(
        self,
        bricks: Bricks,
        entire: AssemblyProblem,
        images: DataSet,
        params: Assembly,
        seed: int,
        kept: Memo,
        heard: Memo | None = None,
    ) -> None:
        self.entire, self.params, self.seed = replace(entire, limits={}), params, seed
        self.problem = widened(self.entire, bricks, params, NOWHERE)
        self.workshop = Workshop(bricks, environment.memory(), kept)
        self.questions = Questions(images)
        self.probes = built.measures(images, params, seed).probes
        self._heard = heard or Memo()
        self.known = self._asked()
        self._liked: dict[tuple[Pick, Treatment], float] = {}

    def _asked(self) -> list[Known]:
        bricks, found = self.workshop.bricks, list[Known]()
        wanted = list[tuple[Columns, Treatment]]()
        whole, last = range(len(bricks.cards)), self.problem.blocks[-1]
        ends = [column for column in range(self.problem.choices) if column in whole or last[column].narrow]
        narrow = [(column,) * bricks.sets for column in ends if is_narrow_throughout(self.problem, column)]
        for path in (*product(*[whole] * (bricks.sets - 1), ends), *narrow):
            alone = len(Pick.of(self.problem.blocks, path).runs()) == 1
            tried: Sequence[Treatment] = ("none",) if alone else self.params.treatments
            for treatment in tried:
                wanted.append((path, treatment))
        for start in range(0, len(wanted), joining.AT_ONCE):
            group = wanted[start : start + joining.AT_ONCE]
            made = [self.workshop.reassemble(Pick.of(self.problem.blocks, path), how) for path, how in group]
            for (path, treatment), (network, recipe), said in zip(group, made, self._answers(made), strict=True):
                candidate = Candidate.of(self.problem, path)
                able = is_stackable(network, bricks.sample(recipe.input)[:1])
                found.append(Known(candidate, path, treatment, recipe.input, said, able))
        return found

    def _answers(self, made: Sequence[Made]) -> list[Float[torch.Tensor, "n classes"]]:
        """The logits of some chains on all images, those that were asked before from `heard`."""
        asked = self.questions.images.images.checksum, self.questions.index.tolist()
        keys = [
            memo.key(Path(grove.__file__), tensor_checksum(network.state_dict()), recipe.to_dict(), *asked)
            for network, recipe in made
        ]
        found = {key: kept["logits"] for key in keys if (kept := self._heard.get(key)) is not None}
        new = {key: one for key, one in zip(keys, made, strict=True) if key not in found}
        if new:
            said = Grove.of(self.workshop.bricks, new, fused).answers(self.questions.loader)
            for key, logits in said.items():
                self._heard.put(key, {"logits": logits})
            found |= said
        return [found[key] for key in keys]

    def liked(self, design: Design) -> float:
        """What NASWOT says of a chain."""
        wanted = design.candidate.pick, design.treatments[0]
        if wanted not in self._liked:
            network, recipe = self.workshop.reassemble(*wanted)
            found = naswot(network, (x for x, _ in self.probes.images(recipe.input)))
            self._liked[wanted] = float("-inf") if found is None else found
        return self._liked[wanted]


@dataclass(frozen=True, eq=False)
class Smaller:
    """A network that MDA has cut, as it may be chosen.

    logits: on the picking images.
    stacked: the map that becomes part of its last layer.
    """

    of: Pruned
    logits: Float[torch.Tensor, "n classes"]
    stacked: Stacked | None


Choice = Design | Smaller


class View:
    """The field as images see it that are divided in one way.

    images: whose validation and test images are among those that were asked.
    pruned: networks that MDA has cut.
    """

    def __init__(self, field: Field, images: DataSet, pruned: Sequence[Pruned] = ()) -> None:
        self.field, self.images = field, images
        self.measures = built.measures(images, field.params, field.seed)
        choosing, picking = (self._at(half) for half in (self.measures.choosing, self.measures.picking))
        self.known = [
            Member(
                one.candidate, one.path, one.treatment, one.input, one.said[choosing], one.said[picking], one.stackable
            )
            for one in field.known
        ]
        self.joiner = self._joiner(self.known, field.params.tails, field.params.prior)
        self.designs = joining.chains(self.known, self.measures, field.params.prior)
        self.plain = joining.chains(self.known, self.measures)
        self.smaller = [Smaller(one, one.said[picking], None) for one in pruned]
        combiner = Combiner(self.measures.choosing.labels, field.params.prior)
        for one in pruned:
            _, by = combiner.best([one.said[choosing]], one.stackable)
            if by is not None:
                self.smaller.append(Smaller(one, by(one.said[picking][None]), by))

    def _at(self, measure: Measure) -> torch.Tensor:
        return torch.from_numpy(self.field.questions.at(measure.index))

    def _joiner(self, known: Sequence[Member], tails: int, prior: float | None) -> Joiner:
        return Joiner(self.field.problem, known, self.measures, tails, prior)

    def within(self, kind: Kind, limit: float) -> list[Choice]:
        """What our choice has to choose from, within one budget: chains as they are treated, the best trees, and
        every rival, as it is and stacked.
        """
        fixed = (*self.designs, *self.rivals)
        return [*(one for one in fixed if cost(one)[kind] <= limit), *self._trees(kind, limit)]

    def _trees(self, kind: Kind, limit: float) -> list[Design]:
        return self.joiner.best(self.field.params.trees, {kind: limit})

    def ours(self, kind: Kind, limit: float) -> Choice:
        """The best of them on the picking images, ties by likelihood."""
        return max(self.within(kind, limit), key=self._worth)

    def stronger(self, kind: Kind, limit: float) -> Choice:
        """The best of the rivals on the picking images."""
        return max((one for one in self.rivals if cost(one)[kind] <= limit), key=self._worth)

    @cached_property
    def rivals(self) -> list[Choice]:
        """Whole networks and ensembles, and networks that MDA has cut, as they are and stacked."""
        return [*self.whole, *self.ensembles, *self.stacked, *self.smaller]

    def _worth(self, choice: Choice) -> tuple[float, float]:
        assert choice.logits is not None
        return built.judge(choice.logits, self.measures.picking.labels)

    @cached_property
    def whole(self) -> list[Design]:
        """The networks of the zoo."""
        return [one for one in self.plain if len(one.candidate.pick.runs()) == 1]

    @cached_property
    def ensembles(self) -> list[Design]:
        """Every set of whole networks, averaged."""
        return self._joiner(self._alone, len(self._alone), None).best(2 ** len(self._alone))

    @cached_property
    def stacked(self) -> list[Design]:
        """Whole networks and sets of them whose heads were fitted to the labels of the choosing images, as far as these
        find them better so.
        """
        prior, alone = self.field.params.prior, self._alone
        joined = self._joiner(alone, len(alone), prior).best(2 ** len(alone))
        return [one for one in (*joining.chains(alone, self.measures, prior), *joined) if one.stacked is not None]

    @property
    def _alone(self) -> list[Member]:
        return [one for one in self.known if len(one.candidate.pick.runs()) == 1]

    def drawn(self, kind: Kind, limit: float) -> list[Design]:
        """One chain within the budget at random, and what the paper's search finds there by NASWOT."""
        entire = [one for one in self.plain if not any(block.narrow for block in one.candidate.pick.blocks)]
        within = [one for one in entire if one.candidate.cost[kind] <= limit]
        if not within:
            return []
        chains, field = {one.candidate.pick: one for one in within}, self.field
        drawn = within[int(np.random.default_rng(field.seed).integers(len(within)))]
        problem, evaluations = replace(field.entire, limits={kind: limit}), field.params.paper_search
        found = exchange(
            problem, lambda one: field.liked(chains[one.pick]), evaluations or len(entire), field.seed
        ).best
        return [drawn] if found is None else [drawn, chains[found.pick]]

    def said(self, choice: Choice) -> np.ndarray:
        """The class that it answers for each image that was asked, int [n]."""
        tails = choice.of.said[None] if isinstance(choice, Smaller) else self._tails(choice)
        together = tails.mean(0) if choice.stacked is None else choice.stacked(tails)
        return together.argmax(1).numpy()

    def _tails(self, design: Design) -> Float[torch.Tensor, "t n classes"]:
        logits = {(one.path, one.treatment): one.said for one in self.field.known}
        paths = [self.field.problem.path(pick) for pick in design.candidate.picks]
        return torch.stack([logits[tail] for tail in zip(paths, design.treatments, strict=True)])

    def entrant(self, choice: Choice) -> Entrant:
        """It as these images see it."""
        said, picking = self.said(choice), self.measures.picking.index
        fitted = choice.stacked is not None
        return self.field.questions.entrant(title(choice), cost(choice), said, self.images, picking, fitted)


def is_narrow_throughout(problem: AssemblyProblem, column: int) -> bool:
    """Whether the blocks of a column are those of a network that is equally narrow in every set."""
    blocks = [row[column] for row in problem.blocks]
    return all(block.narrow for block in blocks) and len({(block.network, block.width) for block in blocks}) == 1


def title(choice: Choice) -> str:
    """What it is made of."""
    if isinstance(choice, Smaller):
        made = choice.of.name
    else:
        picks = choice.candidate.picks
        made = " + ".join(pick.networks[0] if len(pick.runs()) == 1 else pick.words for pick in picks)
    return made if choice.stacked is None else f"{made}, stacked"


def cost(choice: Choice) -> Mapping[Kind, float]:
    """Of each kind."""
    return choice.of.cost if isinstance(choice, Smaller) else choice.candidate.cost


def budgets(costs: Sequence[float], count: int) -> list[float]:
    """So many, log-spaced, from the smallest of the zoo networks' costs to the sum of all."""
    return [float(np.ceil(limit)) for limit in np.geomspace(min(costs), sum(costs), count)]
