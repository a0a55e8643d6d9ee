"""What is chosen within a budget beside its rivals: three published ResNets, untrained, 10 budgets each of two kinds.

python -m benchmarks.frontier --quick [--data DIR] [--checkpoints DIR] [--work DIR] [--treatment auto]

Within each budget of parameters or MACs, what we choose stands beside the rival that validation images pick: whole
networks, ensembles of them, whole networks cut by MDA, a random chain, the paper's search; a second table has whole
networks, ensembles and cut networks with stacked heads, as ours may be, among the rivals. A sample of 2,500 validation
and 3,000 test images is asked, blocks are whole ones. Layers behind stitches are refitted and heads kept, which
validation images choose for these hybrids; `--treatment auto` lets them, and needs twice as long. The last line is one
JSON object; its tau_score is of all chains and of the trees that are picked, lego_prediction_error_max of `lego.choose`
on two VGGs. The whole study is `./run dvc repro` in studies/frontier.
"""

import json
import shutil
import sys
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from rich.console import Console

from benchmarks import quick
from lib.base.memo import Memo
from lib.dery.assembly.agreement import kendall_tau
from lib.dery.assembly.built import Design
from lib.dery.combining import judge
from lib.dery.paths import propose
from lib.images import data
from lib.params.assembly import Assembly
from lib.params.base import read
from lib.params.components import Repair
from lib.params.run import Run
from stages import SCRATCH, in_one_line
from studies.cifar10.cut import cut
from studies.frontier import untrained
from studies.frontier.answers import UNTRAINED
from studies.frontier.field import View
from studies.frontier.pruned import pruned
from studies.frontier.tables import contests
from studies.frontier.task import SEEN
from studies.frontier.verdict import figures, on_picking, sheet, verdict
from studies.inputs import checkpoint
from studies.mda import sources
from studies.mda.budgets import largest_error
from studies.mda.lab import Lab
from studies.sheet import Result, Sheet

NETWORKS = ("resnet20", "resnet32", "resnet56")
BUDGETS = 10  # of a kind
SHARES = (0.7,)  # of a network's parameters, to which MDA cuts it
VALIDATION, TEST = 2_500, 3_000  # images
SELECT = 2_000  # train images among which those for contributions are selected
REPAIR = Repair(images=250, joint=0, classifier_images=2000)
VGGS, LIMITS = ("vgg_a", "vgg_b"), (7e5, 1e6, None)  # params of what lego.choose chooses


def main() -> None:
    """Prints the tables and, as the last line, the figures as JSON."""
    parser = quick.parser("frontier", str(__doc__))
    parser.add_argument("--treatment", default="layers", help="assembly.treatment, of what stands behind stitches")
    given = parser.parse_args()
    with in_one_line("benchmarks.frontier"):
        params = quick.published(given, NETWORKS)
        given.data, given.checkpoints = given.data.resolve(), given.checkpoints.resolve()
        params["run"]["threads"] = 2
        params["dataset"]["validation"] = VALIDATION / 50_000
        params["assembly"] |= {"rank_images": None, "rank_on": "validation", "min_sources": 1}
        params["assembly"]["treatment"] = given.treatment
        params["edges"]["rows"] = 8_192
        params["contributions"] = quick.params("mda", given.data)["contributions"] | {"models": list(NETWORKS)}
        params["zoo"]["models"] = {name: params["zoo"]["models"][name] for name in NETWORKS}
        with quick.place(given.work, params):
            dataset = quick.dataset_and_zoo(NETWORKS, TEST)
            result = frontier(dataset)
        with quick.place(given.work, _lego(given)):
            quick.zoo_of(VGGS, dataset)
            result.figures["lego_prediction_error_max"] = _lego_error(dataset)
        console = Console(width=180)
        for one in result.sheets:
            console.print(one.rich())
        print(json.dumps(result.figures))
        sys.stdout.flush()


def frontier(dataset: Path) -> Result:
    """In the current folder: a row a budget, and figures."""
    images, seed = data.load(dataset, SCRATCH), read("run", Run).seed
    cuts = cut(NETWORKS, images, quick.ZOO, Path("artifacts/cut")).cuts
    bricks = untrained.bricks(quick.ZOO, NETWORKS, cuts, images)
    for folder in ("fronts", "edges"):
        shutil.rmtree(SCRATCH / folder, ignore_errors=True)  # they are timed
    began = perf_counter()
    bricks = untrained.joined(bricks, Memo(SCRATCH / "fronts", 2**32), Memo(SCRATCH / "edges"))
    edges_seconds = perf_counter() - began
    began = perf_counter()
    problem = untrained.problem(bricks)
    propose.propose(replace(problem, limits={"params": 1e6}), read("assembly", Assembly).pool, 1)
    resolve_seconds = perf_counter() - began
    asked = untrained.opened(bricks, images)
    smaller = list(pruned(quick.ZOO, NETWORKS, images, SHARES, REPAIR, SELECT, asked.questions))
    view, made = View(asked, images, smaller), untrained.Comparison()
    answers = made.answers({SEEN: view}, BUDGETS)
    rounds = answers.rounds[SEEN]
    held = list(contests(answers.networks, rounds, asked.questions, images, UNTRAINED, view.measures.picking.index))
    found = [verdict(one, seed) for one in held]
    stronger = [verdict(replace(one, rivals=one.stronger), seed, on_picking) for one in held]
    told = figures(found)
    designs = [(i, one) for i, one in made.choices.items() if isinstance(one, Design)]
    picked = [one for i, one in designs if answers.networks[i].role != "spare"]
    return Result(
        {
            "budgets": told["budgets"],
            "won_untrained": told["won"],
            "tied_untrained": told["tied"],
            "worst_regret_points": told["worst_regret_points"],
            "mean_margin_points": told["mean_margin_points"],
            "tau_score": _tau(view, picked),
            "resolve_seconds": resolve_seconds,
            "edges_seconds": edges_seconds,
        },
        (
            sheet("Without training: test accuracy within a budget", found),
            sheet("The same beside rivals whose heads are stacked, too", stronger),
            _treatments(view),
        ),
    )


def _treatments(view: View) -> Sheet:
    """What stands behind stitches: how right hybrids are on the picking images, treated in one way or another."""
    labels, rows = view.measures.picking.labels, list[tuple[str, ...]]()
    chosen = [one.treatments[0] for one in view.designs if len(one.candidate.pick.runs()) > 1]
    for treatment in view.field.params.treatments:
        right = [judge(one.picking, labels)[0] for one in view.known if one.treatment == treatment]
        rows.append((treatment, f"{np.mean(right):.2f}", f"{max(right):.2f}", str(chosen.count(treatment))))
    title = f"Treatments of {len(chosen)} hybrids: validation accuracy on the picking half, %"
    return Sheet(title, ("treatment", "mean", "best", "chosen on the other half"), tuple(rows))


def _tau(view: View, ours: Sequence[Design]) -> float | None:
    """Kendall's tau of the score by which paths are proposed with test accuracy."""
    different = {one.candidate.picks: one for one in (*view.designs, *ours)}.values()
    return kendall_tau([one.candidate.score for one in different], [view.entrant(one).test for one in different])


def _lego(given: Namespace) -> dict[str, Any]:
    """The params of studies/mda with the VGGs alone."""
    found = quick.params("mda", given.data)
    found["run"]["threads"] = 2
    models = {name: found["zoo"]["models"][name] for name in VGGS}
    for entry in models.values():
        entry["weights"] = str(checkpoint(given.checkpoints, Path(entry["weights"]).name).resolve())
    found["zoo"]["models"], found["contributions"]["models"] = models, list(VGGS)
    found["lego"]["choose"]["models"], found["study"]["select_images"] = list(VGGS), SELECT
    found["components"]["repair"] |= REPAIR.model_dump(include={"images", "joint", "classifier_images"})
    return found


def _lego_error(dataset: Path) -> float:
    """In percent points, in the current folder."""
    told = Path("artifacts/sources")
    for name in VGGS:
        sources.main(name, dataset, quick.ZOO, told)
    return largest_error(Lab(dataset, quick.ZOO, told), VGGS, LIMITS)


if __name__ == "__main__":
    main()
