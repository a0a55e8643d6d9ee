"""Stage `scratch`: what two picks are worth that learn from random weights, for as long as the others are tuned."""

from pathlib import Path

from lib.base import resume
from lib.dery import tuning
from lib.images import data
from lib.network import files
from lib.network.reassembled import Reassembled
from lib.params.base import read
from lib.params.run import Run
from stages import SCRATCH, prepare, run
from studies.cifar10.budgets import choices
from studies.cifar10.group import START, Group, Measured, key, write_right
from studies.cifar10.tuned import read_protocols, tuned


def main(dataset: Path, cut: Path, untrained: Path, out: Path) -> None:
    """Writes whether the picks of the smallest and of the largest budget are right on each test image.

    cut: folder of the group; untrained: of that stage, all items.
    """
    protocols, seed = read_protocols(), read("run", Run).seed
    prepare(read("run", Run))
    images, measured = data.load(dataset, SCRATCH), Measured(Group.load(cut), untrained, None)
    settings = tuning.from_scratch({name: own for name, (own, _) in protocols.items()})
    wanted, found = {"full": (settings, protocols["full"][1])}, {}
    picks = [choice.pick for choice in choices(measured, START)]
    with resume.scratch(SCRATCH / "scratch") as folder:
        for path in dict.fromkeys((picks[0], picks[-1])):
            start = untrained / f"{measured.group.name}-{START}" / "networks" / key(path)
            _, recipe = files.load_as(Reassembled, start, trust=True)
            model = tuning.untrained(recipe, seed)
            ((_, found[path]),) = tuned(model, recipe, images, wanted, seed, folder)
        write_right(out, {"scratch": found})


if __name__ == "__main__":
    run(main)
