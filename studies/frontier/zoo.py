"""Stage `zoo`: a network of one of the zoos; those that are trained here see what their zoo wants them to know."""

from pathlib import Path

from lib.base import artifacts, resume
from lib.images import data
from lib.network import files
from lib.params.base import read
from lib.params.run import Run
from lib.params.training import Training
from lib.params.zoo import ZooModel
from lib.zoo import make
from stages import SCRATCH, prepare, run
from studies.frontier.scenario import Scenario
from studies.frontier.task import lesson


def main(zoo: str, model: str, dataset: Path, out: Path, metrics: Path, curve: Path) -> None:
    """Writes the network of entry `model` to `out`. Networks of a zoo begin with different seeds.

    zoo: its name.
    """
    scenario, wanted = read(f"study.zoos.{zoo}", Scenario), read(f"zoo.models.{model}", ZooModel)
    run_params, settings = read("run", Run), wanted.override(read("zoo.training", Training))
    images = lesson(data.load(dataset, SCRATCH), scenario, model, run_params.seed)
    seed = run_params.seed + scenario.networks.index(model)
    device = prepare(run_params.model_copy(update={"seed": seed}))
    with resume.scratch(SCRATCH / "zoo" / model) as scratch:
        network, card, rows = make.make(model, wanted, images, settings, seed, device, scratch)
        files.save(out, network, card)
        told = {"params": card.cost.params, "macs": card.cost.macs, "accuracy": card.accuracy}
        artifacts.write_metrics(metrics, told)
        artifacts.write_metrics(curve, [{"network": model, **row} for row in rows])


if __name__ == "__main__":
    run(main)
