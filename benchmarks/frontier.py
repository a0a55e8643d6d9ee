"""The quick form of studies/frontier: the published ResNets, untrained, at 10 budgets each of parameters and MACs.

python -m benchmarks.frontier --quick [--data DIR] [--checkpoints DIR] [--work DIR]

Within each budget, what we choose stands beside the rival that validation images pick: whole networks, ensembles of
them, whole networks cut by MDA, a random assembly, the paper's search. Layers behind stitches are refitted, heads kept,
as validation images choose for all of these hybrids (docs/stitching.md). The last line is one JSON object.
"""

import json
import sys
from pathlib import Path

from rich.console import Console

from benchmarks import quick
from lib.base.errors import BrickyardError
from stages import in_one_line
from studies.frontier import untrained
from studies.inputs import checkpoint

NETWORKS = ("resnet20", "resnet32", "resnet56")
BUDGETS = 10  # of a kind
SHARES = (0.7,)  # of a network's parameters, to which MDA cuts it


def main() -> None:
    """Prints the table and, as the last line, the figures as JSON."""
    given = quick.arguments("frontier", str(__doc__))
    with in_one_line("benchmarks.frontier"):
        if not given.data.exists():
            raise BrickyardError(f"{given.data} not found: name the place with --data")
        params = quick.params("cifar10", given.data)
        params["run"]["threads"] = 2
        params["assembly"] |= {"rank_images": None, "rank_on": "validation", "min_sources": 1, "treatment": "layers"}
        params["edges"]["rows"] = 32_768
        params["contributions"] = quick.params("mda", given.data)["contributions"] | {"models": list(NETWORKS)}
        params["zoo"]["models"] = {name: params["zoo"]["models"][name] for name in NETWORKS}
        for name in NETWORKS:
            entry = params["zoo"]["models"][name]
            entry["weights"] = str(checkpoint(given.checkpoints, Path(entry["weights"]).name).resolve())
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
