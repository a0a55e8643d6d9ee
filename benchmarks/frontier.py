"""What is chosen within a budget beside its rivals: three published ResNets, untrained, 10 budgets each of two kinds.

python -m benchmarks.frontier --quick [--data DIR] [--checkpoints DIR] [--work DIR] [--treatment auto]

Within each budget of parameters or MACs, what we choose stands beside the rival that validation images pick: whole
networks, ensembles of them, whole networks cut by MDA, a random chain, the paper's search. Layers behind stitches are
refitted and heads kept, which validation images choose for these hybrids; `--treatment auto` lets them, and needs
twice as long. The last line is one JSON object; its tau_score is of all chains and of the trees that are picked.
"""

import json
import sys

from rich.console import Console

from benchmarks import quick
from stages import in_one_line
from studies.frontier import untrained

NETWORKS = ("resnet20", "resnet32", "resnet56")
BUDGETS = 10  # of a kind
SHARES = (0.7,)  # of a network's parameters, to which MDA cuts it


def main() -> None:
    """Prints the table and, as the last line, the figures as JSON."""
    parser = quick.parser("frontier", str(__doc__))
    parser.add_argument("--treatment", default="layers", help="assembly.treatment, of what stands behind stitches")
    given = parser.parse_args()
    with in_one_line("benchmarks.frontier"):
        params = quick.published(given, NETWORKS)
        params["run"]["threads"] = 2
        params["assembly"] |= {"rank_images": None, "rank_on": "validation", "min_sources": 1}
        params["assembly"]["treatment"] = given.treatment
        params["edges"]["rows"] = 32_768
        params["contributions"] = quick.params("mda", given.data)["contributions"] | {"models": list(NETWORKS)}
        params["zoo"]["models"] = {name: params["zoo"]["models"][name] for name in NETWORKS}
        with quick.place(given.work, params):
            quick.dataset_and_zoo(NETWORKS)
            result = untrained.measured(NETWORKS, quick.DATASET, quick.ZOO, BUDGETS, SHARES)
        console = Console(width=180)
        for sheet in result.sheets:
            console.print(sheet.rich())
        print(json.dumps(result.figures))
        sys.stdout.flush()


if __name__ == "__main__":
    main()
