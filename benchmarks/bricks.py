"""What a network is worth with one block in a smaller form: a published ResNet, untrained.

python -m benchmarks.bricks --quick [--data DIR] [--checkpoints DIR] [--work DIR] [--network resnet20]

Every form of every block (narrow, without a node) is fitted and priced as stage `bricks` does; then the network with
this one form in it is put together, layers behind it refitted, and asked on 2,000 validation images, which it has
been trained on. Blocks are repaired on fewer images than by the stage, and each layer once. The last line is one JSON
object: how many forms there are, how many of them lose nothing, Kendall's tau of KL and of R² with accuracy.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from time import process_time

import numpy as np
from rich.console import Console

from benchmarks import quick
from lib.base.memo import Memo
from lib.base.progress import track
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
REPAIR = Repair(images=250, joint=0)
VALIDATION = 2_000  # images


def main() -> None:
    """Prints the table and, as the last line, the figures as JSON."""
    parser = quick.parser("bricks", str(__doc__))
    parser.add_argument("--network", default="resnet20", choices=NETWORKS)
    given = parser.parse_args()
    with in_one_line("benchmarks.bricks"):
        params = quick.published(given, NETWORKS)
        params["run"]["threads"] = 2
        params["dataset"]["validation"] = VALIDATION / 50_000
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
    order = sorted(found, key=lambda one: (one.set, one.block.form))
    picks = [bricks.whole(0)]
    for one in order:
        blocks = (one.block if k == one.set else own[0] for k, own in enumerate(bricks.blocks, start=1))
        picks.append(Pick(tuple(blocks)))
    whole, *accuracies = asked(bricks, images, picks)
    rows = list[tuple[str, ...]]()
    for one, right in zip(order, accuracies, strict=True):
        told = (f"{params_with(bricks, one):,}", f"{one.r2:.4f}", f"{one.kl:.4f}", f"{right:.2f}")
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


def asked(bricks: Bricks, images: DataSet, picks: Sequence[Pick]) -> list[float]:
    """Accuracies on the validation images, in percent; layers behind what changed are refitted."""
    workshop = Workshop(bricks, 2**32, Memo(SCRATCH / "prefixes", 2**32))
    made = [workshop.reassemble(pick, "layers") for pick in track(picks, "forms", len(picks))]
    grove = Grove.of(bricks, {str(i): network for i, network in enumerate(made)}, fused)
    labels = images.labels[images.validation]
    said = grove.answers(lambda expected: ChannelsLast(images.images, images.validation, expected.transform(), BATCH))
    return [100 * float((said[str(i)].argmax(1).numpy() == labels).mean()) for i in range(len(picks))]


if __name__ == "__main__":
    main()
