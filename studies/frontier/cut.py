"""Stage `cut`: the networks of a zoo compared on the images of its task, and cut into blocks."""

from pathlib import Path

from lib.base import artifacts
from lib.images import data
from lib.params.base import read
from lib.params.run import Run
from stages import SCRATCH, prepare, run
from studies.cifar10.cut import cut
from studies.frontier.scenario import Scenario
from studies.frontier.task import task


def main(zoo: str, dataset: Path, networks: Path, out: Path) -> None:
    """Writes cuts.json, and the similarity of all nodes as stage `similarity` does, to `out`.

    zoo: its name.
    networks: folder of the zoo.
    """
    prepare(read("run", Run))
    scenario = read(f"study.zoos.{zoo}", Scenario)
    images = task(data.load(dataset, SCRATCH), scenario, read("run", Run).seed)
    found = cut(scenario.networks, images, networks, out)
    artifacts.write_json(out / "cuts.json", {"objective": found.objective, "cuts": found.cuts})


if __name__ == "__main__":
    run(main)
