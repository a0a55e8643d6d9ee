"""The paper's own search as a control: the authors' exchange of blocks, with NASWOT as what it looks for."""

from typing import Any

from ...base.progress import track
from ..paths.exchange import exchange
from ..paths.problem import AssemblyProblem, Candidate
from .built import Built, Measures
from .ranking import PROXIES, key
from .reassembly import Workshop
from .recount import recount


def paper_search(
    workshop: Workshop, problem: AssemblyProblem, evaluations: int, measures: Measures, seed: int
) -> dict[str, Any]:
    """The candidate with the highest NASWOT that the search of DeRy's code finds within so many evaluations (500 in the
    paper): how many it looked at, its blocks, costs and test accuracies, plain and balanced.

    Differs from the paper: candidates are put together in the same way as ours, with fitted stitches.
    """
    naswot, steps = PROXIES["naswot"], iter(track(range(evaluations), "paper's search", evaluations))

    def liked(candidate: Candidate) -> float:
        next(steps)
        return key(naswot, naswot.predict(Built(candidate, *workshop.reassemble(candidate.pick), measures)))

    found = exchange(problem, liked, evaluations, seed)
    best = found.best
    if best is None:
        return {"candidates": 0}
    made, recipe = workshop.reassemble(best.pick)
    recount("paper_search", made, recipe, workshop.bricks, best.cost, problem.limits, problem.at_least)
    scores = measures.test.scores(made, recipe.input)
    tested = {"test": scores.accuracy, "balanced_test": scores.balanced}
    return {"candidates": len(found.evaluated), "blocks": recipe.words, **best.cost, **tested}
