"""What one budget after another buys: picked by predicted score, put together and measured, with trees and whole
networks beside. Ours, not in the paper.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import Any, Literal

import numpy as np

from ...params.assembly import Assembly
from ..combining import judge
from ..paths import feasibility, trees
from ..paths.pareto import nondominated
from ..paths.problem import AssemblyProblem, Candidate
from ..paths.sweep import sweep
from ..paths.tables import Kind
from . import joining
from .built import Design, Measures
from .joining import Joiner, Member
from .ranking import put_together
from .recount import recount
from .workshop import Workshop

Form = Literal["chain", "tree", "whole"]


@dataclass(frozen=True)
class Step:
    """What a limit on one kind of cost buys, by form, as far as there is anything: the chain with the best predicted
    score, of trees and whole networks what the choosing images find best.
    """

    kind: Kind
    limit: float
    bought: Mapping[Form, Design]


def limits(problem: AssemblyProblem, kind: Kind, count: int, lenders: Sequence[int], tails: int) -> list[float]:
    """So many limits on one kind of cost, log-spaced, from the least that a candidate needs to what the dearest whole
    networks need side by side: parameters, MACs, bytes or milliseconds.

    problem: all other limits of it hold.
    kind: one of `problem.costs`.
    count: of the limits, 1 or more.
    lenders: networks that may lend blocks.
    tails: of a tree, at most.

    Raises BrickyardError, naming the limits that bind, where no candidate has the others.
    """
    lifted = _limited(problem, kind, None)
    least = feasibility.smallest(lifted, kind)
    if least is None:
        raise feasibility.explain(lifted)
    whole = sorted((problem.whole(m) for m in lenders), key=lambda path: problem.cost(path, kind))
    most = max(least, trees.price(problem, whole[-tails:])[kind])
    grain = 1e3 if kind == "latency" else 1
    spaced = np.geomspace(least, most, count) if count > 1 else [most]
    return [ceil(grain * float(limit)) / grain for limit in spaced]


def swept(
    workshop: Workshop,
    problem: AssemblyProblem,
    lenders: Sequence[int],
    series: Mapping[Kind, Sequence[float]],
    params: Assembly,
    measures: Measures,
) -> list[Step]:
    """A step for each limit. What is picked is put together under each treatment and treated as chains are.

    problem: with scores; its own limits hold, but for that on the kind that is swept.
    lenders: whole networks that stand beside, and are tails.
    series: limits by kind.
    params: of assembly: treatments, and the number of tails.

    Raises BrickyardError where a network costs something else than was predicted.
    """
    picked: dict[tuple[Kind, float], Candidate] = {}
    for kind, own in series.items():
        for limit, pool in zip(own, sweep(problem, kind, own), strict=True):
            if pool.candidates:
                picked[kind, limit] = pool.candidates[0]
    different = list({one.pick: one for one in picked.values()}.values())
    alone = joining.whole(replace(problem, limits={}), lenders)
    whole = [one for one in alone if one not in different and problem.reaches(problem.path(one.pick))]
    known = joining.members(workshop, problem, different, params.treatments, measures)
    known += joining.members(workshop, problem, whole, ("none",), measures)
    designs = {one.candidate.pick: one for one in joining.chains(known, measures, params.prior)}
    joiner, found = Joiner(problem, known, measures, params.tails, params.prior), list[Step]()
    for kind, own in series.items():
        for limit in own:
            held = _limited(problem, kind, limit).limits
            bought: dict[Form, Design] = {}
            if (candidate := picked.get((kind, limit))) is not None:
                bought["chain"] = designs[candidate.pick]
            for tree in joiner.best(1, held):
                bought["tree"] = tree
            single = [one for one in known if _is_whole(one) and joining.within(one.candidate.cost, held)]
            if single:
                best = max(single, key=lambda one: judge(one.choosing, measures.choosing.labels))
                bought["whole"] = designs[best.candidate.pick]
            found.append(Step(kind, limit, bought))
    for design in {one.candidate.picks: one for step in found for one in step.bought.values()}.values():
        recount(_words(design.candidate), *put_together(workshop, design), workshop.bricks, design.candidate.cost, {})
    return found


def rows(steps: Sequence[Step], measures: Measures) -> list[dict[str, Any]]:
    """What is bought under the limits on one kind, a row each, for plots: its cost of that kind, its accuracy on the
    picking images in percent, and whether nothing else here is both cheaper and more accurate (on_front).
    """
    labels, found = measures.picking.labels, list[dict[str, Any]]()
    for step in steps:
        for form, design in step.bought.items():
            assert design.logits is not None
            candidate = design.candidate
            told = {"limit": step.limit, "form": form, "path": _words(candidate), "cost": candidate.cost[step.kind]}
            told |= {"accuracy": judge(design.logits, labels)[0], "score": candidate.score}
            found.append(told | {"treatments": list(design.treatments), **candidate.cost})
    costs = np.array([[row["cost"]] for row in found], float).reshape(len(found), 1)
    best = nondominated(np.array([row["accuracy"] for row in found], float), costs)
    front = {(found[i]["cost"], found[i]["accuracy"]) for i in best.tolist()}
    return [row | {"on_front": (row["cost"], row["accuracy"]) in front} for row in found]


def _limited(problem: AssemblyProblem, kind: Kind, limit: float | None) -> AssemblyProblem:
    """With this limit on one kind, None for none."""
    others = {other: value for other, value in problem.limits.items() if other != kind}
    return replace(problem, limits=others if limit is None else {**others, kind: limit})


def _words(candidate: Candidate) -> str:
    """The networks that supply the sets, in order; of a tree for each of its tails; a whole network once."""
    return " + ".join(pick.words if len(pick.runs()) > 1 else pick.networks[0] for pick in candidate.picks)


def _is_whole(one: Member) -> bool:
    return len(one.candidate.pick.runs()) == 1
