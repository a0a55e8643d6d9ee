"""The pool of candidates that is worth building: searched, certified, or explained."""

from collections.abc import Mapping
from dataclasses import dataclass

from ...base.errors import BrickyardError
from . import feasibility, pareto, search
from .certificate import certify
from .problem import AssemblyProblem, Candidate, Pool
from .tables import KINDS, Kind


@dataclass(frozen=True)
class Proposal:
    """What the search proposes.

    pool: the best candidates.
    bound: that HiGHS proves on the first one's score.
    fronts: by kind of cost, the candidates that no other beats in score and that cost.
    """

    pool: Pool
    bound: float | None
    fronts: Mapping[Kind, list[Candidate]]


def propose(problem: AssemblyProblem, count: int, wanted: int, apart: int = 0) -> Proposal:
    """The `count` best candidates within the budgets, each the best that has blocks of other networks than those before
    it at `apart` places at least.

    Raises BrickyardError when there is none, naming the budgets that bind and the smallest feasible values, and when
    there are fewer than `wanted`, the last one that is to be tuned.
    """
    pool = search.best(problem, count, apart=apart)
    if not pool.candidates:
        raise feasibility.explain(problem)
    if len(pool.candidates) < wanted:
        other = " or lower assembly.differ_by" if problem.thinned(apart) else ""
        raise BrickyardError(
            f"finetune.ranks asks for r{wanted}, but {len(pool.candidates)} candidates {problem.told_as(apart)} (pool "
            f"of {count}); lower the rank or raise assembly.pool or assembly.budget{other}"
        )
    bound = certify(problem, pool).bound
    return Proposal(pool, bound, {kind: pareto.frontier(problem, kind) for kind in KINDS if kind in problem.costs})
