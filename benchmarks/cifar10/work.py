"""The work folder: the experiment's own params.yaml, links to images and checkpoints, and what the stages leave."""

import re
from contextlib import chdir
from pathlib import Path

from lib import artifacts, cost, data, zoo
from lib.errors import BrickyardError
from lib.params.base import read
from lib.params.zoo import Zoo, ZooModel
from stages import dataset as dataset_stage
from stages import zoo as zoo_stage

ROOT = Path(__file__).parents[2]
PARAMS = Path(__file__).with_name("params.yaml")
DATASET, ZOO = Path("dataset"), Path("zoo")


def enter(folder: Path, images: Path, checkpoints: Path) -> chdir:
    """Makes the work folder ready and returns the context in which it is the current one.

    Raises BrickyardError when images or one of the three checkpoints are missing.
    """
    links = {"data/models": ROOT / "data" / "models", "data/cifar10": images}
    for depth in (20, 32, 56):
        found = [
            path for path in sorted(checkpoints.glob(f"resnet{depth}*")) if re.match(rf"resnet{depth}\b", path.name)
        ]
        links[f"checkpoints/resnet{depth}.th"] = found[0] if found else checkpoints / f"resnet{depth}.th"
    for name, target in links.items():
        if not target.exists():
            raise BrickyardError(
                f"{target} not found: name the place with --{'data' if 'cifar' in name else 'checkpoints'}"
            )
        link = folder / name
        if link.resolve() != target.resolve():
            link.parent.mkdir(parents=True, exist_ok=True)
            link.unlink(missing_ok=True)
            link.symlink_to(target.resolve())
    artifacts.write_text(folder / "params.yaml", PARAMS.read_text(encoding="utf-8"))
    return chdir(folder)


def split() -> data.DataSet:
    """The images with their splits, by stage `dataset`, once."""
    if not (DATASET / "card.json").exists():
        dataset_stage.main(out=DATASET, metrics=Path("metrics/dataset.json"))
    return data.load(DATASET)


def trained(classes: str) -> list[str]:
    """The networks that are trained here on these classes, in the order of params.yaml."""
    models = read("zoo", Zoo).models
    return [name for name, entry in models.items() if entry.weights == "train" and entry.classes == classes]


def network(name: str) -> Path:
    """The folder of one zoo network, made where it is missing: by stage `zoo`, whose training goes on where it was
    killed, or from its checkpoint.
    """
    folder, entry = ZOO / name, read(f"zoo.models.{name}", ZooModel)
    if (folder / "card.json").exists():
        return folder
    if entry.weights == "train":
        zoo_stage.main(DATASET, name, folder, Path(f"metrics/{name}.json"), Path(f"metrics/{name}.curve.json"))
        return folder
    classes = data.load(DATASET).images.classes
    model, architecture, expected = zoo.create(name, entry, len(classes))
    size = cost.count(model, expected.shape)
    nodes = tuple(entry.nodes)
    card = zoo.Card(name, architecture, expected, classes, nodes, entry.weights, entry.licence, size, None)
    zoo.save(folder, model, card)
    return folder
