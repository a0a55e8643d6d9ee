"""What the candidates must be compared to: random ones, those that NASWOT likes, the zoo itself, its ensembles."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

from torch import nn

from ...base.progress import track
from ...network.files import save as save_network
from ...params.assembly import Assembly
from ...zoo.ask import Scores
from ...zoo.card import Input
from ..paths.problem import AssemblyProblem, Candidate
from . import joining
from .built import Built, Design, Measures
from .material import Bricks
from .ranking import PROXIES, Ranked, key, put_together
from .reassembly import reassemble
from .recount import recount
from .workshop import Workshop


def random_controls(
    workshop: Workshop,
    drawn: Sequence[Candidate],
    problem: AssemblyProblem,
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
    best: tuple[float, Candidate] | None = None
    for i, candidate in enumerate(track(drawn, "random assemblies", len(drawn))):
        if i < params.random_assemblies:
            made = chosen(workshop, problem, candidate, params, measures)
            found.append(measures.test.scores(made.network, made.recipe.input))
        if i < params.random_search:
            liked = naswot(workshop, candidate, params, measures)
            best = (liked, candidate) if best is None or liked > best[0] else best
    if best is None:
        return {"random_assembly": {"count": 0}, "random_search": {"candidates": 0}}
    searched = {"candidates": min(len(drawn), params.random_search)}
    searched |= finished("random_search", workshop, problem, best[1], params, measures)
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


def naswot(workshop: Workshop, candidate: Candidate, params: Assembly, measures: Measures) -> float:
    """NASWOT of a candidate under the one treatment that needs no choice, so that larger is better."""
    proxy, how = PROXIES["naswot"], params.treatments[0]
    return key(
        proxy, proxy.predict(Built(Design(candidate, (how,)), *workshop.reassemble(candidate.pick, how), measures))
    )


def chosen(
    workshop: Workshop, problem: AssemblyProblem, candidate: Candidate, params: Assembly, measures: Measures
) -> Built:
    """A candidate put together in the same way as ours."""
    known = joining.members(workshop, problem, [candidate], params.treatments, measures)
    (design,) = joining.chains(known, measures, params.prior)
    return _made(workshop, design, measures)


def _made(workshop: Workshop, design: Design, measures: Measures) -> Built:
    return Built(design, *put_together(workshop, design.settled(measures)), measures)


def finished(
    name: str,
    workshop: Workshop,
    problem: AssemblyProblem,
    candidate: Candidate,
    params: Assembly,
    measures: Measures,
) -> dict[str, Any]:
    """Likewise, counted anew: its blocks, costs and test accuracies; name: by which an error calls it."""
    made = chosen(workshop, problem, candidate, params, measures)
    recount(name, made.network, made.recipe, workshop.bricks, candidate.cost, problem.limits, problem.at_least)
    return {"blocks": made.recipe.words, **candidate.cost, **_tested(measures, made.network, made.recipe.input)}


def _tested(measures: Measures, made: nn.Module, expected: Input) -> dict[str, float]:
    scores = measures.test.scores(made, expected)
    return {"test": scores.accuracy, "balanced_test": scores.balanced}


def zoo_control(bricks: Bricks, problem: AssemblyProblem, lenders: Sequence[int], measures: Measures) -> dict[str, Any]:
    """Every zoo network as it would be used for the task, and the best within the budget of those that may lend
    blocks, chosen by validation, ties by fewer parameters; None where there is none.
    """
    models: dict[str, dict[str, Any]] = {}
    for m, card in track(list(enumerate(bricks.cards)), "zoo networks"):
        path = problem.whole(m)
        cost, within = problem.price(path), problem.within(path)
        whole, recipe = reassemble(bricks, bricks.whole(m))
        recount(card.name, whole, recipe, bricks, cost, problem.limits if within else {})
        scores = card.accuracy if bricks.keeps_head(m) else None  # with its own head it is what stage zoo has measured
        models[card.name] = {
            **cost,
            "head": "own" if bricks.keeps_head(m) else "closed form",
            "within_budget": within,
            **(
                scores or {"validation": measures.validation(whole, card.input), **_tested(measures, whole, card.input)}
            ),
        }
    affordable = [bricks.cards[m].name for m in lenders if models[bricks.cards[m].name]["within_budget"]]
    best = min(affordable, key=lambda name: (-models[name]["validation"], models[name]["params"]), default=None)
    return {"best_within_budget": {"model": best, **models[best]} if best else None, "models": models}


def ensemble_control(
    workshop: Workshop,
    problem: AssemblyProblem,
    lenders: Sequence[int],
    params: Assembly,
    measures: Measures,
) -> dict[str, Any] | None:
    """The best ensemble of whole networks within the budget, chosen as trees are and put together like one, `stacked`
    where that is more accurate; None where no two of them are within it. No other rule holds for it.
    """
    within = joining.whole(problem, lenders)
    known = joining.members(workshop, problem, within, ("none",), measures)
    none: frozenset[Any] = frozenset()
    free = replace(problem, min_sources=1, max_sources=None, at_least={}, required=none)
    free = replace(free, required_blocks=none, excluded_blocks=none)
    found = joining.Joiner(free, known, measures, params.tails, params.prior).best(params.trees)
    if not found:
        return None
    best = max((_made(workshop, design, measures) for design in found), key=Built.accuracy)
    recount("ensemble", best.network, best.recipe, workshop.bricks, best.candidate.cost, problem.limits)
    names, stacked = [pick.networks[0] for pick in best.candidate.picks], best.design.stacked is not None
    told = _tested(measures, best.network, best.recipe.input)
    return {"models": names, "stacked": stacked, **best.candidate.cost, **told}


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
