"""Stage `zoo`: one trained network, its weights and its card."""

from pathlib import Path

from lib.base import artifacts, processes, resume
from lib.images import data
from lib.network import files
from lib.params.base import read
from lib.params.run import Run
from lib.params.training import Training
from lib.params.zoo import ZooModel
from lib.zoo import make
from stages import SCRATCH, prepare, run


def main(dataset: Path, model: str, out: Path, metrics: Path, curve: Path) -> None:
    """Makes or opens the network of entry `model`, measures it, writes it to `out`."""
    run_params, wanted = read("run", Run), read(f"zoo.models.{model}", ZooModel)
    settings = wanted.override(read("zoo.training", Training))
    device = prepare(run_params)
    images = data.load(dataset, SCRATCH)
    with resume.scratch(SCRATCH / "zoo" / model) as scratch:
        network, card, rows = make.make(model, wanted, images, settings, run_params.seed, device, scratch)
        if processes.rank() > 0:
            return
        files.save(out, network, card)
        artifacts.write_metrics(
            metrics, {"params": card.cost.params, "macs": card.cost.macs, "accuracy": card.accuracy}
        )
        artifacts.write_metrics(curve, [{"network": model, **row} for row in rows])


if __name__ == "__main__":
    run(main, several=True)
