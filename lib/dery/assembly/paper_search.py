"""The paper's own search as a control: the authors' exchange of blocks, with NASWOT as what it looks for."""

from typing import Any

from ...base.progress import track
from ...params.assembly import Assembly
from ..paths.exchange import exchange
from ..paths.problem import AssemblyProblem, Candidate
from . import controls
from .built import Measures
from .workshop import Workshop


def paper_search(
    workshop: Workshop, problem: AssemblyProblem, evaluations: int, params: Assembly, measures: Measures, seed: int
) -> dict[str, Any]:
    """The candidate with the highest NASWOT that the search of DeRy's code finds within so many evaluations (500 in the
    paper): how many it looked at, its blocks, costs and test accuracies, plain and balanced.

    Differs from the paper: candidates are put together in the same way as ours, with fitted stitches.
    """
    steps = iter(track(range(evaluations), "paper's search", evaluations))

    def liked(candidate: Candidate) -> float:
        next(steps)
        return controls.naswot(workshop, candidate, params, measures)

    found = exchange(problem, liked, evaluations, seed)
    if found.best is None:
        return {"candidates": 0}
    tested = controls.finished("paper_search", workshop, problem, found.best, params, measures)
    return {"candidates": len(found.evaluated), **tested}
