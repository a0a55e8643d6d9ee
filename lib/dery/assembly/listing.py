"""What the assembly found, as tables and rows for files. Text is for people; what is read again is `pick`."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from math import inf
from typing import TYPE_CHECKING, Any

from ...params.assembly import Assembly
from ..paths.problem import AssemblyProblem, Candidate
from ..paths.propose import Proposal
from ..paths.tables import KINDS, Kind
from .ranking import Ranked

if TYPE_CHECKING:
    import pandas


def row(candidate: Candidate) -> dict[str, Any]:
    """A candidate: its blocks, predicted score, costs."""
    others = {"others": [pick.to_dict() for pick in candidate.others]} if candidate.others else {}
    return {"pick": candidate.pick.to_dict(), **others, "score": candidate.score, **candidate.cost}


def points(front: Sequence[Candidate], kind: Kind, problem: AssemblyProblem) -> list[dict[str, Any]]:
    """A Pareto front for a plot: cost of one kind against score; within_budget: whether it keeps those limits, too, the
    lower one with its stitches at their cheapest.
    """
    least, limit, cheapest = problem.at_least.get(kind), problem.limits.get(kind, inf), problem.at_cheapest

    def within(c: Candidate) -> bool:
        reached = least is None or bool(cheapest.cost(problem.path(c.pick), kind) >= least)
        return reached and c.cost[kind] <= limit

    return [{"cost": c.cost[kind], "score": c.score, "path": words(c)} | {"within_budget": within(c)} for c in front]


def pareto(fronts: Mapping[Kind, Sequence[Candidate]], problem: AssemblyProblem) -> "pandas.DataFrame":
    """All fronts under one another: which budget, cost of that kind, score, path, and all costs."""
    import pandas as pd

    return pd.DataFrame(
        [
            {"budget": kind, **point, **candidate.cost}
            for kind, front in fronts.items()
            for candidate, point in zip(front, points(front, kind, problem), strict=True)
        ]
    )


def proxies(ranked: Sequence[Ranked]) -> "pandas.DataFrame":
    """One row a candidate in order of rank: its blocks and what each proxy says of it, empty where it says nothing."""
    import pandas as pd

    return pd.DataFrame(
        [{"rank": place, "path": words(r.candidate), **r.values} for place, r in enumerate(ranked, start=1)]
    )


def report(found: Proposal, ranked: Sequence[Ranked], problem: AssemblyProblem, params: Assembly) -> dict[str, Any]:
    """Everything for assembly.json: candidates in order of rank, with their accuracy on the ranking images; those that
    are written, with what was counted of them beside what was predicted.
    """
    return {
        **params.model_dump(include={"score", "block_score", "rank", "rank_on", "treatment"}),
        "status": found.pool.status,
        "bound": found.bound,
        "budget": {kind: problem.limits.get(kind) for kind in KINDS},
        **({"at_least": dict(problem.at_least)} if problem.at_least else {}),
        "candidates": [
            {**row(r.candidate), "treatments": list(r.design.treatments), "weights": list(r.design.weights)}
            | {"stacked": r.design.stacked is not None}
            | {"rank_accuracy": r.values["accuracy"]}
            | ({} if r.counted is None else {"counted": asdict(r.counted)})
            for r in ranked
        ],
        "pareto": {
            kind: [
                {**row(candidate), "cost": point["cost"], "within_budget": point["within_budget"]}
                for candidate, point in zip(front, points(front, kind, problem), strict=True)
            ]
            for kind, front in found.fronts.items()
        },
    }


def words(candidate: Candidate) -> str:
    """The networks that supply the sets, in order; of a tree for each of its tails."""
    return " + ".join(pick.words for pick in candidate.picks)
