"""Stage `components`: the component of each task, cut out of its network (MDA)."""

from pathlib import Path

from lib import artifacts, data
from lib import zoo as networks
from lib.mda import classes, components, measure, saved
from lib.params.base import read
from lib.params.components import Components
from lib.params.run import Run
from lib.params.zoo import Zoo
from lib.progress import track
from stages import prepare, run


def main(dataset: Path, zoo: Path, contributions: Path, out: Path, metrics: Path) -> None:
    """Writes a component a task to `out`; its size, and its accuracy beside its source's, to `metrics`."""
    tasks, models = read("components", Components).tasks, read("contributions.models", list[str])
    classes.check_tasks(tasks, models)
    artifacts.keep_only(zoo, read("zoo", Zoo).models)
    artifacts.keep_only(contributions, models)
    device = prepare(read("run", Run))
    images = data.load(dataset)
    names = images.images.classes
    report = {}
    for name, task in track(list(tasks.items()), "components"):
        network, card = networks.load(zoo / task.model)
        outputs = classes.outputs(name, task.classes, names, card.classes, task.model)
        kept = components.union(artifacts.read_tensors(contributions / task.model / "masks.safetensors"), outputs)
        component = components.cut(network, kept, card.input.shape)
        recipe = components.describe(name, component, kept, outputs, network, card)
        saved.save(out / name, component, recipe)
        numbers = classes.numbers(card.classes, names, task.model)
        test = data.of_classes(images.images, images.test, numbers)
        loader = data.Loader(images.images, test, card.input.transform(), measure.BATCH_SIZE, numbers)
        whole, labels = measure.logits(network.to(device), loader)
        own, _ = measure.logits(component.to(device), loader)
        size = {"params": recipe.cost.params, "macs": recipe.cost.macs, "share": recipe.cost.params / card.cost.params}
        report[name] = {**size, **measure.component(whole, own, labels, outputs)}
    artifacts.write_json(metrics, report)


if __name__ == "__main__":
    run(main)
