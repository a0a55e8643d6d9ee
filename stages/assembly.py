"""Stage `assembly`: proposes candidates within the budget, puts them together untrained, ranks and writes them."""

from dataclasses import replace
from pathlib import Path

from lib.base import artifacts, environment
from lib.base.memo import Memo
from lib.dery.assembly import built, controls, forms, gains, joining, listing, prices, ranking, recount
from lib.dery.assembly import edges as lib_edges
from lib.dery.assembly.material import open_bricks
from lib.dery.assembly.paper_search import paper_search
from lib.dery.assembly.widened import widened
from lib.dery.assembly.workshop import Workshop
from lib.dery.partition.sets import Partition
from lib.dery.paths import propose, sample
from lib.images import data
from lib.params.assembly import Assembly
from lib.params.base import read
from lib.params.edges import Edges
from lib.params.entries import entries
from lib.params.run import Run
from lib.params.zoo import Zoo
from lib.zoo import teachers
from stages import SCRATCH, prepare, run

FRONTS = 2**32  # bytes that are kept for other networks' edges, and for a grown zoo


def main(
    dataset: Path,
    zoo: Path,
    similarity: Path,
    partition: Path,
    edges: Path,
    bricks: Path,
    latency: Path,
    out: Path,
    metrics: Path,
    pareto: Path,
) -> None:
    """Writes assembly.json, tables, candidates/r1, …; what they score untrained, beside its controls, to `metrics`."""
    params, run_params, names = read("assembly", Assembly), read("run", Run), sorted(read("zoo", Zoo).models)
    wanted = max(read("finetune.ranks", list[int]))
    frozen, full = read("finetune.frozen.teacher", str), read("finetune.full.teacher", str)
    device = prepare(run_params)
    artifacts.keep_only(zoo, names)
    for folder in (edges, bricks):
        artifacts.keep_only(folder, names)
    images, sets = data.load(dataset, SCRATCH, device), Partition.read(partition)
    own = open_bricks(zoo, names, sets.cuts, images, read("edges", Edges), run_params.seed, params, entries())
    own = replace(own, kept=Memo(SCRATCH / "fronts", FRONTS))
    own = forms.load(replace(own, edges=lib_edges.load(own, edges)), bricks, entries())
    lent = teachers.lent({"frozen": frozen, "full": full}, own.cards, images.classes)
    entire, lenders = prices.assembly_problem(own, params, latency), prices.lenders(own, params)
    entire = replace(entire, scores=gains.scores(own, params, sets, similarity))
    problem = widened(entire, own, params, latency)
    found = propose.propose(problem, params.pool, wanted, params.differ_by)
    measures = built.measures(images, params, run_params.seed)
    kept = Memo(SCRATCH / "prefixes", 2**32)
    workshop = Workshop(own, environment.memory() // 4, kept)
    known = joining.members(workshop, problem, found.pool.candidates, params.treatments, measures)
    pool = joining.chains(known, measures, params.prior)
    if params.tails > 1:
        others = [one for one in joining.whole(problem, lenders) if one not in found.pool.candidates]
        known += joining.members(workshop, problem, others, ("none",), measures)
        pool += joining.Joiner(problem, known, measures, params.tails, params.prior).best(params.trees)
    ranked = ranking.rank(workshop, pool, params.rank, wanted, measures, params.proxies)
    ranked = recount.finished(own, ranked, problem.limits, problem.at_least)
    drawn = sample.random_candidates(entire, max(params.random_search, params.random_assemblies), run_params.seed)
    rivals = controls.random_controls(workshop, drawn, entire, params, measures)
    rivals["zoo"] = controls.zoo_control(own, problem, lenders, measures)
    rivals["ensemble"] = controls.ensemble_control(workshop, problem, lenders, params, measures)
    if params.paper_search is not None:
        rivals["paper_search"] = paper_search(workshop, entire, params.paper_search, params, measures, run_params.seed)
    for memo in (kept, own.kept):
        memo.prune()
    saved = controls.save(out / "candidates", own, ranked[:wanted], rivals["zoo"]["best_within_budget"], measures)
    for rank in saved:
        teachers.lend(lent, zoo, out / "candidates" / rank / "teachers")
    taus = ranking.agreements(ranked)
    artifacts.write_metrics(metrics, {"untrained": saved, "controls": rivals, "kendall_tau_to_accuracy": taus})
    report = listing.report(found, ranked, problem, params)
    artifacts.write_json(out / "assembly.json", report, environment.machine())
    artifacts.write_csv(out / "proxies.csv", listing.proxies(ranked))
    artifacts.write_csv(out / "pareto.csv", listing.pareto(found.fronts, problem))
    for kind, front in found.fronts.items():
        artifacts.write_metrics(pareto / f"{kind}.json", listing.points(front, kind, problem))


if __name__ == "__main__":
    run(main)
