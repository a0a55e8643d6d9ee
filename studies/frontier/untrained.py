"""Ours and every rival within each budget, without training."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from lib.base.memo import Memo
from lib.dery.assembly import edges, gains, prices
from lib.dery.assembly.agreement import kendall_tau
from lib.dery.assembly.built import Design, judge
from lib.dery.assembly.fronts import Fronts
from lib.dery.assembly.material import Bricks, open_bricks
from lib.dery.assembly.proxies.naswot import naswot
from lib.dery.paths import propose
from lib.dery.paths.exchange import exchange
from lib.dery.paths.problem import AssemblyProblem
from lib.dery.paths.tables import Kind
from lib.images import data
from lib.network.blocks import Pick
from lib.params.assembly import Assembly
from lib.params.base import read
from lib.params.contributions import Contributions
from lib.params.edges import Edges
from lib.params.run import Run
from stages import SCRATCH, contributions, prepare
from studies.cifar10 import cut
from studies.cifar10.bootstrap import Estimate, difference
from studies.cifar10.group import Group
from studies.frontier.field import KINDS, Entrant, Field, budgets
from studies.frontier.pruned import pruned
from studies.sheet import Result, Sheet

NOWHERE = Path("latency.json")  # nothing is measured


def measured(names: Sequence[str], dataset: Path, zoo: Path, count: int, shares: Sequence[float]) -> Result:
    """In the current folder: a row a budget, and what benchmarks.frontier prints.

    names: of the zoo.
    dataset, zoo: folders of those stages.
    count: budgets of a kind.
    shares: of parameters, to which MDA cuts whole networks.
    """
    run, params = read("run", Run), read("assembly", Assembly)
    prepare(run)
    images = data.load(dataset, SCRATCH)
    groups = Path("artifacts/cut/resnets")
    cut.main("resnets", dataset, zoo, groups, Path("metrics/cut.json"))
    cuts = dict(zip(names, Group.load(groups).cuts, strict=True))
    bricks = open_bricks(zoo, names, cuts, images, read("edges", Edges), run.seed, params, trust=True)
    for folder in ("fronts", "edges"):
        shutil.rmtree(SCRATCH / folder, ignore_errors=True)  # they are timed
    began = perf_counter()
    memos = (Memo(SCRATCH / "fronts", 2**32), Memo(SCRATCH / "edges"))
    fitted = [edge for name in names for edge in edges.fit(bricks, name, Fronts(bricks, memos[0]), memos[1])]
    edges_seconds = perf_counter() - began
    bricks = replace(bricks, edges={(edge.boundary, edge.source, edge.target): edge for edge in fitted})
    began = perf_counter()
    problem = _problem(bricks, params)
    propose.propose(replace(problem, limits={"params": 1e6}), params.pool, 1)
    resolve_seconds = perf_counter() - began
    field = Field(bricks, problem, images, params, run.seed, Memo(SCRATCH / "prefixes", 2**32))
    for name in names:
        contributions.main(
            dataset, zoo / name, name, Path("artifacts/contributions", name), Path(f"metrics/{name}.json")
        )
    smaller = pruned(
        zoo, Path("artifacts/contributions"), images, shares, read("contributions", Contributions), run.seed
    )
    table = compared(field, smaller, count, params, run.seed)
    return Result(table.figures | {"resolve_seconds": resolve_seconds, "edges_seconds": edges_seconds}, table.sheets)


def _problem(bricks: Bricks, params: Assembly) -> AssemblyProblem:
    found = prices.assembly_problem(bricks, params, NOWHERE)
    return replace(found, scores=gains.scores(bricks, params, None, Path()))


def compared(field: Field, smaller: Sequence[Entrant], count: int, params: Assembly, seed: int) -> Result:
    """smaller: the cut networks."""
    whole = [one for one in field.designs if len(one.candidate.pick.runs()) == 1]
    ours: dict[tuple[Kind, float], Design] = {}
    for kind in KINDS:
        for limit in budgets([one.candidate.cost[kind] for one in whole], count):
            ours[kind, limit] = field.ours(kind, limit)
    rivals = field.rivals()
    field.ask([*ours.values(), *rivals, *field.designs])
    liked = {one.candidate.pick: _liked(field, one) for one in field.designs}
    known = [field.entrant(one) for one in rivals] + list(smaller)
    rows, margins, won = [], list[float](), 0
    for (kind, limit), design in ours.items():
        within = [one for one in field.designs if one.candidate.cost[kind] <= limit]
        others = [one for one in known if one.cost[kind] <= limit]
        others += [field.entrant(one) for one in _searched(field, within, {kind: limit}, liked, params, seed)]
        rival, entrant = max(others, key=lambda one: one.validation), field.entrant(design)
        margin = difference(entrant.right, rival.right, seed)
        oracle = max(others, key=lambda one: one.test)
        margins.append(margin.value)
        won += margin.low > 0
        rows.append(_row(kind, limit, entrant, rival, margin, oracle))
    tied = sum(margin == 0 for margin in margins)
    figures: dict[str, Any] = {
        "budgets": len(rows),
        "won_untrained": won,
        "tied_untrained": tied,
        "worst_regret_points": max(0.0, -min(margins)),
        "mean_margin_points": float(np.mean(margins)),
        "tau_score": _tau(field, [*field.designs, *ours.values()]),
    }
    columns = (
        "budget",
        "ours",
        "%",
        "rival that validation picks",
        "%",
        "ours - rival [95 %]",
        "best rival on test, %",
    )
    notes = f"{won} of {len(rows)} budgets are won: the interval of the paired bootstrap over test images is above 0."
    first = Sheet("Without training: test accuracy within a budget", columns, tuple(rows), notes)
    return Result(figures, (first, _treatments(field)))


def _treatments(field: Field) -> Sheet:
    """What stands behind stitches: how right hybrids are on the picking images, treated in one way or another."""
    labels, rows = field.measures.picking.labels, []
    chosen = [one.treatments[0] for one in field.designs if len(one.candidate.pick.runs()) > 1]
    for treatment in field.params.treatments:
        hybrids = [one for one in field.known if one.treatment == treatment]
        right = [judge(one.picking, labels)[0] for one in hybrids]
        rows.append((treatment, f"{np.mean(right):.2f}", f"{max(right):.2f}", str(chosen.count(treatment))))
    title = f"Treatments of {len(chosen)} hybrids: validation accuracy on the picking half, %"
    return Sheet(title, ("treatment", "mean", "best", "chosen on the other half"), tuple(rows))


def _row(kind: Kind, limit: float, ours: Entrant, rival: Entrant, margin: Estimate, oracle: Entrant) -> tuple[str, ...]:
    won = " *" if margin.low > 0 else ""
    return (
        f"{limit:,.0f} {kind}",
        ours.name,
        f"{ours.test:.2f}",
        rival.name,
        f"{rival.test:.2f}",
        f"{margin}{won}",
        f"{oracle.test:.2f}",
    )


def _searched(
    field: Field,
    within: Sequence[Design],
    limits: dict[Kind, float],
    liked: dict[Pick, float],
    params: Assembly,
    seed: int,
) -> list[Design]:
    """One chain within the budget at random, and what the paper's search finds there by NASWOT."""
    if not within:
        return []
    drawn = within[int(np.random.default_rng(seed).integers(len(within)))]
    problem = replace(field.problem, limits=limits)
    found = exchange(problem, lambda one: liked[one.pick], params.paper_search or len(liked), seed).best
    return [drawn, *(one for one in within if found is not None and one.candidate.pick == found.pick)]


def _liked(field: Field, design: Design) -> float:
    network, recipe = field.workshop.reassemble(design.candidate.pick, design.treatments[0])
    found = naswot(network, (x for x, _ in field.measures.probes.images(recipe.input)))
    return float("-inf") if found is None else found


def _tau(field: Field, designs: Sequence[Design]) -> float | None:
    """Kendall's tau of the score by which paths are proposed with test accuracy."""
    different = {one.candidate.picks: one for one in designs}.values()
    return kendall_tau([one.candidate.score for one in different], [field.entrant(one).test for one in different])
