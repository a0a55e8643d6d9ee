"""What a network is worth with one block in a smaller form: a published ResNet, untrained.

python -m benchmarks.bricks --quick [--data DIR] [--checkpoints DIR] [--work DIR] [--network resnet32]

Every form of every block (narrow, without a node) is fitted and priced as stage `bricks` does; then the network with
this one form in it is put together, layers behind it refitted, and asked on validation images, which it has been
trained on. Blocks are repaired on fewer images than by the stage. The last line is one JSON object: how many forms
there are, how many of them lose nothing, Kendall's tau of KL and of R² with accuracy.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path
from time import process_time

import numpy as np
from rich.console import Console

from benchmarks import quick
from lib.base.memo import Memo
from lib.dery.assembly import forms, narrowing
from lib.dery.assembly.agreement import kendall_tau
from lib.dery.assembly.fronts import Fronts
from lib.dery.assembly.grove import Grove
from lib.dery.assembly.material import Bricks, Smaller, open_bricks
from lib.dery.assembly.workshop import Workshop
from lib.images import data
from lib.images.data import DataSet
from lib.network import files
from lib.network.blocks import Pick
from lib.params.assembly import Assembly
from lib.params.base import read
from lib.params.components import Repair
from lib.params.contributions import Contributions
from lib.params.edges import Edges
from lib.params.run import Run
from lib.zoo.card import Card
from stages import SCRATCH, in_one_line
from studies.cifar10.cut import cut
from studies.cifar10.tree import BATCH, ChannelsLast, fused
from studies.sheet import Result, Sheet

WIDTHS = (0.75, 0.5)
NETWORKS = ("resnet20", "resnet32", "resnet56")  # that are cut together
REPAIR = Repair(images=250)


def main() -> None:
    """Prints the table and, as the last line, the figures as JSON."""
    parser = quick.parser("bricks", str(__doc__))
    parser.add_argument("--network", default="resnet32", choices=NETWORKS)
    given = parser.parse_args()
    with in_one_line("benchmarks.bricks"):
        params = quick.published(given, NETWORKS)
        params["run"]["threads"] = 2
        params["contributions"] = quick.params("mda", given.data)["contributions"] | {"models": list(NETWORKS)}
        params["zoo"]["models"] = {name: params["zoo"]["models"][name] for name in NETWORKS}
        with quick.place(given.work, params):
            quick.dataset_and_zoo(NETWORKS)
            result = measured(given.network)
        for one in result.sheets:
            Console(width=140).print(one.rich())
        print(json.dumps(result.figures))
        sys.stdout.flush()


def measured(name: str) -> Result:
    """In the current folder: a row a form."""
    seed, params = read("run", Run).seed, read("assembly", Assembly)
    images = data.load(quick.DATASET, SCRATCH)
    cuts = cut(NETWORKS, images, quick.ZOO, Path("artifacts/cut")).cuts
    bricks = open_bricks(quick.ZOO, [name], cuts, images, read("edges", Edges), seed, params, trust=True)
    network, card = files.load_as(Card, quick.ZOO / name, trust=True)
    began = process_time()
    made = narrowing.narrow(bricks, name, network, WIDTHS, images, read("contributions", Contributions), REPAIR)
    bricks = replace(bricks, narrow={(name, width): forms.opened(card, *one) for width, one in made.items()})
    fronts = Fronts(bricks, Memo(SCRATCH / "fronts", 2**32))
    found = forms.priced(bricks, name, fronts) + forms.skipped(bricks, name, fronts)
    seconds = process_time() - began
    bricks = replace(bricks, forms={name: found})
    whole = asked(bricks, images, bricks.whole(0))
    order = sorted(found, key=lambda one: (one.set, one.block.form))
    rows, accuracies = list[tuple[str, ...]](), list[float]()
    for one in order:
        pick = Pick(tuple(one.block if k == one.set else own[0] for k, own in enumerate(bricks.blocks, start=1)))
        accuracies.append(asked(bricks, images, pick))
        told = (f"{params_with(bricks, one):,}", f"{one.r2:.4f}", f"{one.kl:.4f}", f"{accuracies[-1]:.2f}")
        rows.append((str(one.set), one.block.form, *told))
    figures = {
        "forms": len(found),
        "lossless": int(sum(np.array(accuracies) >= whole)),
        "tau_kl": kendall_tau([-one.kl for one in order], accuracies),
        "tau_r2": kendall_tau([one.r2 for one in order], accuracies),
        "whole": whole,
        "cpu_seconds": seconds,
    }
    columns = ("set", "form", "params", "R²", "KL, nats", "validation, %")
    title = (
        f"{name} with one block in a smaller form, untrained; whole: {bricks.chains[0].total.params:,}, {whole:.2f} %"
    )
    return Result(figures, (Sheet(title, columns, tuple(rows)),))


def params_with(bricks: Bricks, form: Smaller) -> int:
    """Parameters of the network with this form in it."""
    chain, block = bricks.chains[0], form.block
    pieces = sum(bricks.chain(one).cost(one.start, one.stop).params for one in block.pieces())
    stitch = sum(p.numel() for p in form.edge.stitch.parameters()) if form.edge else 0
    return chain.total.params - chain.cost(block.start, block.stop).params + pieces + stitch


def asked(bricks: Bricks, images: DataSet, pick: Pick) -> float:
    """Accuracy on the validation images, in percent; layers behind what changed are refitted."""
    made = Workshop(bricks, 2**30, Memo(SCRATCH / "prefixes", 2**32)).reassemble(pick, "layers")
    grove = Grove.of(bricks, {"it": made}, fused)
    said = grove.answers(lambda expected: ChannelsLast(images.images, images.validation, expected.transform(), BATCH))[
        "it"
    ]
    return 100 * float((said.argmax(1).numpy() == images.labels[images.validation]).mean())


if __name__ == "__main__":
    main()
