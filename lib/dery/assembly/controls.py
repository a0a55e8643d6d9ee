"""What the candidates must be compared to: random candidates, the authors' random search, the zoo itself."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from torch import nn

from ...base.progress import track
from ...network.files import save as save_network
from ...params.assembly import Assembly
from ...zoo.ask import Scores
from ...zoo.card import Input
from ..paths.problem import AssemblyProblem, Candidate, Kind
from .built import Built, Measures
from .material import Bricks
from .ranking import PROXIES, Ranked, key
from .reassembly import Workshop, reassemble
from .recount import recount


def random_controls(
    workshop: Workshop,
    drawn: Sequence[Candidate],
    limits: Mapping[Kind, float],
    params: Assembly,
    measures: Measures,
) -> dict[str, Any]:
    """Random feasible candidates, put together in the same way as ours: `random_assembly`: test accuracies, plain and
    balanced, of the first `random_assemblies`; `random_search`: of the one that NASWOT likes best among the first
    `random_search` (DeRy, section 3.4).

    Differs from the paper: its search exchanges blocks and joins them by random stitches; ours draws candidates and
    joins them by fitted ones, as everywhere here, and looks at them by our NASWOT.
    """
    found: list[Scores] = []
    best: tuple[float, Built] | None = None
    for i, candidate in enumerate(track(drawn, "random assemblies", len(drawn))):
        made = Built(candidate, *workshop.reassemble(candidate.pick), measures)
        if i < params.random_assemblies:
            found.append(measures.test.scores(made.network, made.recipe.input))
        if i < params.random_search:
            liked = key(PROXIES["naswot"], PROXIES["naswot"].predict(made))
            best = (liked, made) if best is None or liked > best[0] else best
    if best is None:
        return {"random_assembly": {"count": 0}, "random_search": {"candidates": 0}}
    liked, made = best
    recount("random_search", made.network, made.recipe, workshop.bricks, made.candidate.cost, limits)
    searched = {"candidates": min(len(drawn), params.random_search), "blocks": made.recipe.words}
    searched |= {**made.candidate.cost, **_tested(measures, made.network, made.recipe.input)}
    accuracies, balanced = [one.accuracy for one in found], [one.balanced for one in found]
    return {
        "random_assembly": {
            "count": len(found),
            "mean": mean(accuracies),
            "max": max(accuracies),
            "balanced_mean": mean(balanced),
            "balanced_max": max(balanced),
        },
        "random_search": searched,
    }


def _tested(measures: Measures, made: nn.Module, expected: Input) -> dict[str, float]:
    scores = measures.test.scores(made, expected)
    return {"test": scores.accuracy, "balanced_test": scores.balanced}


def zoo_control(bricks: Bricks, problem: AssemblyProblem, lenders: Sequence[int], measures: Measures) -> dict[str, Any]:
    """Every zoo network as it would be used for the task, and the best within the budget of those that may lend
    blocks, chosen by validation, ties by fewer parameters; None where there is none.
    """
    models: dict[str, dict[str, Any]] = {}
    for m, card in track(list(enumerate(bricks.cards)), "zoo networks"):
        path = (m,) * problem.sets
        cost, within = problem.price(path), problem.within(path)
        whole, recipe = reassemble(bricks, bricks.whole(m))
        recount(card.name, whole, recipe, bricks, cost, problem.limits if within else {})
        models[card.name] = {
            **cost,
            "head": "own" if bricks.keeps_head(m) else "closed form",
            "within_budget": within,
            "validation": measures.validation(whole, card.input),
            **_tested(measures, whole, card.input),
        }
    affordable = [bricks.cards[m].name for m in lenders if models[bricks.cards[m].name]["within_budget"]]
    best = min(affordable, key=lambda name: (-models[name]["validation"], models[name]["params"]), default=None)
    return {"best_within_budget": {"model": best, **models[best]} if best else None, "models": models}


def save(
    folder: Path,
    bricks: Bricks,
    ranked: Sequence[Ranked],
    rival: Mapping[str, Any] | None,
    measures: Measures,
) -> dict[str, Any]:
    """Writes the candidates to r1, r2, … of `folder`, each with the best zoo network, to be tuned in the same way;
    returns their blocks, costs and test accuracies, plain and balanced.
    """
    scores = {}
    for place, candidate in enumerate(ranked, start=1):
        assert candidate.made is not None
        made, recipe = candidate.made
        save_network(folder / f"r{place}", made, recipe)
        if rival is not None:
            whole = bricks.whole(bricks.place(rival["model"]))
            save_network(folder / f"r{place}" / "zoo", *reassemble(bricks, whole))
        scores[f"r{place}"] = {
            "blocks": recipe.words,
            **candidate.candidate.cost,
            **_tested(measures, made, recipe.input),
        }
    return scores
