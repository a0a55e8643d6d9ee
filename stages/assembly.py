"""Stage `assembly`: proposes candidates within the budget, puts them together untrained, ranks and writes them."""

from dataclasses import replace
from pathlib import Path

from lib.base import artifacts, environment
from lib.dery.assembly import built, controls, gains, joining, listing, prices, ranking, recount
from lib.dery.assembly.material import open_bricks
from lib.dery.assembly.reassembly import Workshop
from lib.dery.partition.sets import Partition
from lib.dery.paths import propose, sample
from lib.images import data
from lib.params.assembly import Assembly
from lib.params.base import read
from lib.params.entries import entries
from lib.params.run import Run
from lib.params.zoo import Zoo
from stages import SCRATCH, prepare, run


def main(
    dataset: Path, zoo: Path, similarity: Path, partition: Path, latency: Path, out: Path, metrics: Path, pareto: Path
) -> None:
    """Writes assembly.json, tables, candidates/r1, …; what they score untrained, beside its controls, to `metrics`."""
    params, run_params, names = read("assembly", Assembly), read("run", Run), sorted(read("zoo", Zoo).models)
    wanted = max(read("finetune.ranks", list[int]))
    prepare(run_params)
    artifacts.keep_only(zoo, names)
    images, sets = data.load(dataset, SCRATCH), Partition.read(partition)
    bricks = open_bricks(zoo, names, sets.cuts, images, params, run_params.seed, entries())
    problem, lenders = prices.assembly_problem(bricks, params, latency), prices.lenders(bricks, params)
    problem = replace(problem, scores=gains.scores(bricks, params, sets, similarity, lenders))
    found = propose.propose(problem, params.pool, wanted)
    measures = built.measures(images, params, run_params.seed)
    pool, workshop = [*found.pool.candidates], Workshop(bricks, environment.memory() // 4)
    if params.tails > 1:
        tails = joining.members(workshop, problem, pool, lenders, measures)
        pool += joining.join(problem, tails, measures.ranking.labels, params.tails, params.trees)
    ranked = ranking.rank(workshop, pool, params.rank, wanted, measures, params.proxies)
    ranked = recount.finished(bricks, ranked, problem.limits)
    drawn = sample.random_candidates(problem, max(params.random_search, params.random_assemblies), run_params.seed)
    rivals = controls.random_controls(workshop, drawn, problem.limits, params, measures)
    rivals["zoo"] = controls.zoo_control(bricks, problem, lenders, measures)
    saved = controls.save(out / "candidates", bricks, ranked[:wanted], rivals["zoo"]["best_within_budget"], measures)
    taus = ranking.agreements(ranked)
    artifacts.write_metrics(metrics, {"untrained": saved, "controls": rivals, "kendall_tau_to_accuracy": taus})
    artifacts.write_json(out / "assembly.json", listing.report(found, ranked, problem, params))
    artifacts.write_csv(out / "proxies.csv", listing.proxies(ranked))
    artifacts.write_csv(out / "pareto.csv", listing.pareto(found.fronts, problem))
    for kind, front in found.fronts.items():
        artifacts.write_metrics(pareto / f"{kind}.json", listing.points(front, kind, problem))


if __name__ == "__main__":
    run(main)
