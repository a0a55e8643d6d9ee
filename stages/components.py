"""Stage `components`: the component of one task, cut out of its network and repaired (MDA)."""

from pathlib import Path

from lib.base import artifacts, resume
from lib.images import data
from lib.mda import accuracies, classes, tuning
from lib.mda.components import component
from lib.mda.contributions.found import Found
from lib.network import files
from lib.params.base import read
from lib.params.components import Components, Task
from lib.params.contributions import Contributions
from lib.params.entries import entry
from lib.params.run import Run
from lib.zoo.card import Card
from stages import SCRATCH, prepare, run


def main(dataset: Path, zoo: Path, contributions: Path, task: str, out: Path, metrics: Path) -> None:
    """Writes the component of `task` to `out`; its size, and its accuracy beside its source's, to `metrics`.

    zoo, contributions: the folders with all networks and their masks.
    """
    params, thresholds = read("components", Components), read("contributions", Contributions)
    wanted, run_params = read(f"components.tasks.{task}", Task), read("run", Run)
    classes.check_tasks({task: wanted}, thresholds.models)
    device, images = prepare(run_params), data.load(dataset, SCRATCH)
    network, card = files.load_as(Card, zoo / wanted.model, entry(wanted.model))
    names = images.classes
    outputs = classes.outputs(task, wanted.classes, names, card.classes, wanted.model)
    numbers = classes.numbers(card.classes, names, wanted.model)
    found = Found.load(contributions / wanted.model)
    source = component.supplier(network.to(device), card, found, outputs, images, params, thresholds, run_params.seed)
    made = component.make(task, source, outputs, images, params.repair, run_params.seed)
    index = data.of_classes(images.images, images.test, numbers)
    test = data.Loader(images.images, index, card.input.transform(), accuracies.BATCH_SIZE, numbers)
    whole, labels = accuracies.logits(network, test)
    before, after = (accuracies.logits(part, test)[0] for part in (made.unrepaired, made.module))
    tuned = None
    if params.tuning is not None and len(outputs) > 1:  # one class alone is told apart from nothing
        how, key = params.tuning, "components.tuning"
        teachers = [(network, card)] if how.distillation > 0 else []
        with resume.scratch(SCRATCH / "components" / task) as scratch:
            tuning.tune(made.module, made.recipe, images, images.train, how, run_params.seed, scratch, teachers, key)
        tuned = accuracies.logits(made.module, test)[0]
    files.save(out, made.module, made.recipe)
    cost = made.recipe.cost
    size = {"params": cost.params, "macs": cost.macs, "share": cost.params / card.cost.params}
    artifacts.write_metrics(metrics, size | accuracies.repaired(whole, before, after, labels, outputs, tuned))


if __name__ == "__main__":
    run(main)
