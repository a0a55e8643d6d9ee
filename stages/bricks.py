"""Stage `bricks`: smaller forms of one network's blocks, and what the network is worth with each in it."""

from dataclasses import replace
from pathlib import Path

from lib.base import artifacts
from lib.base.errors import BrickyardError
from lib.base.memo import Memo
from lib.dery.assembly import forms, narrowing
from lib.dery.assembly.fronts import Fronts
from lib.dery.assembly.material import Smaller, open_bricks
from lib.dery.partition.sets import Partition
from lib.images import data
from lib.network import files
from lib.params.base import read
from lib.params.bricks import Bricks
from lib.params.components import Components
from lib.params.contributions import Contributions
from lib.params.edges import Edges
from lib.params.entries import entry
from lib.params.run import Run
from lib.zoo.card import Card
from stages import SCRATCH, prepare, run

FRONTS = 2**32  # bytes that are kept for other passes


def main(dataset: Path, zoo: Path, partition: Path, model: str, out: Path, metrics: Path) -> None:
    """Writes bricks.json, bricks.safetensors and a network a width; R² and the KL of each form to `metrics`."""
    params, seed, narrow, why = read("bricks", Bricks), read("run", Run).seed, {}, None
    asked = params.models is None or model in params.models
    images, cuts = data.load(dataset, SCRATCH, prepare(read("run", Run))), Partition.read(partition).cuts
    found: list[Smaller] = []
    if asked and (params.narrow or params.skip):
        bricks = open_bricks(zoo.parent, [model], cuts, images, read("edges", Edges), seed, trust=entry(model))
        fronts = Fronts(bricks, Memo(SCRATCH / "fronts", FRONTS))
        network, card = files.load_as(Card, zoo, entry(model))  # damage is an error, whatever is on offer
        network.to(bricks.device)
        try:
            forms.check_apart(bricks, model)
            if params.narrow:
                how = read("components", Components).repair
                scores = read("contributions", Contributions)
                narrow = narrowing.narrow(bricks, model, network, params.narrow, images, scores, how)
        except BrickyardError as error:
            if params.models is not None:
                raise
            why = str(error)
        opened = {(model, width): forms.opened(card, *made, bricks.device) for width, made in narrow.items()}
        found += forms.priced(replace(bricks, narrow=opened), model, fronts)
        if params.skip and forms.are_apart(bricks, model):
            found += forms.skipped(bricks, model, fronts)
        fronts.kept.prune()
    forms.save(out, model, found, narrow, why)
    artifacts.write_metrics(metrics, forms.figures(found))


if __name__ == "__main__":
    run(main)
