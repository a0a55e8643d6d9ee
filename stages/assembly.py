"""Stage `assembly`: proposes candidates within the budget, puts them together untrained, ranks and writes them."""

from dataclasses import asdict
from pathlib import Path

from lib import artifacts, data
from lib.dery import assembly, network, ranking, reassembly
from lib.errors import BrickyardError
from lib.params.assembly import Assembly
from lib.params.base import read
from lib.params.finetune import Finetune
from lib.params.run import Run
from lib.params.zoo import Zoo
from stages import prepare, run


def main(dataset: Path, zoo: Path, partition: Path, out: Path, metrics: Path) -> None:
    """Writes assembly.json and candidates/r1, r2, ...; what they score untrained, beside its controls, to `metrics`."""
    params, run_params = read("assembly", Assembly), read("run", Run)
    wanted = max(read("finetune.ranks", list[int], within=Finetune))
    prepare(run_params)
    names = sorted(read("zoo", Zoo).models)
    artifacts.keep_only(zoo, names)
    images = data.load(dataset)
    bricks = reassembly.open_bricks(zoo, names, artifacts.read_json(partition), images, params, run_params.seed)
    r2 = reassembly.stitch_r2(bricks)
    problem = reassembly.problem(bricks, r2, params.budget, params.min_sources)
    pool = assembly.solve(problem, params.pool)
    if len(pool.candidates) < wanted:
        raise BrickyardError(
            f"finetune.ranks asks for r{wanted}, but {len(pool.candidates)} candidates meet the budgets (pool of "
            f"{params.pool}); lower the rank or raise assembly.pool or assembly.budget"
        )
    few = data.stratified_sample(images.images, images.train, params.rank_images, run_params.seed)
    on_train, validation, test = (
        ranking.Measure(images, index, params.batch_size) for index in (few, images.validation, images.test)
    )
    ranked = ranking.rank(bricks, pool.candidates, on_train)
    paths = assembly.random_paths(problem, params.random_assemblies, run_params.seed)
    controls = {
        "random_assembly": ranking.random_control(bricks, paths, test),
        "zoo": ranking.zoo_control(bricks, problem, params.budget, validation, test),
    }
    rival = controls["zoo"]["best_within_budget"]
    scores = {}
    for place, best in enumerate(ranked[:wanted], start=1):
        folder = out / "candidates" / f"r{place}"
        recipe = network.save(folder, best.network, best.recipe)
        if rival is not None:  # goes along, to be tuned in the same way
            network.save(folder / "zoo", *reassembly.reassemble(bricks, bricks.whole(names.index(rival["model"]))))
        scores[f"r{place}"] = {
            "blocks": " > ".join(recipe.blocks()),
            **asdict(recipe.cost),
            "test": test(best.network, recipe.input),
        }
    artifacts.write_json(
        out / "assembly.json",
        {
            "status": pool.status,
            "bound": pool.bound,
            "budget": params.budget.model_dump(),
            "candidates": [ranking.row(r.candidate, problem, r.accuracy) for r in ranked],
            "pareto": [ranking.row(c, problem) for c in assembly.pareto(problem)],
        },
    )
    artifacts.write_json(metrics, {"untrained": scores, "controls": controls})


if __name__ == "__main__":
    run(main)
