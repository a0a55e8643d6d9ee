"""The work folder of a benchmark: the experiment's own params.yaml, links to what it needs, what the stages leave."""

import json
from collections.abc import Mapping
from contextlib import chdir
from pathlib import Path
from typing import Any

from lib.base import artifacts
from lib.base.errors import BrickyardError
from lib.images import data
from lib.network import files
from lib.params.base import read
from lib.params.dataset import Dataset
from lib.params.run import Run
from lib.params.training import Training
from lib.params.zoo import Zoo, ZooModel
from lib.trace import cost
from lib.zoo.card import Card
from lib.zoo.create import create
from stages import SCRATCH
from stages import dataset as dataset_stage
from stages import zoo as zoo_stage

ROOT = Path(__file__).parents[1]
DATASET, ZOO = Path("dataset"), Path("zoo")


def enter(folder: Path, params: str, links: Mapping[str, Path]) -> chdir:
    """Makes the work folder ready and returns the context in which it is the current one.

    params: the text of params.yaml; links: what is there under which name, besides data/models. Raises BrickyardError
    when something is missing.
    """
    for name, target in {"data/models": ROOT / "data" / "models", **links}.items():
        if not target.exists():
            raise BrickyardError(
                f"{target} not found: name the place with --{'data' if name.startswith('data') else 'checkpoints'}"
            )
        link = folder / name
        if link.resolve() != target.resolve():
            link.parent.mkdir(parents=True, exist_ok=True)
            link.unlink(missing_ok=True)
            link.symlink_to(target.resolve())
    artifacts.write_text(folder / "params.yaml", params)
    return chdir(folder)


def split() -> data.DataSet:
    """The images with their splits, by stage `dataset`, once."""
    if _missing(DATASET, {"dataset": read("dataset", Dataset).model_dump(), "seed": read("run", Run).seed}):
        dataset_stage.main(out=DATASET, metrics=Path("metrics/dataset.json"))
    return data.load(DATASET, SCRATCH)


def trained(classes: str) -> list[str]:
    """The networks that are trained here on these classes, in the order of params.yaml."""
    models = read("zoo", Zoo).models
    return [name for name, entry in models.items() if entry.weights == "train" and entry.classes == classes]


def network(name: str, dataset: Path = DATASET) -> Path:
    """The folder of one zoo network, made where it is missing: by stage `zoo`, whose training goes on where it was
    killed, or from its checkpoint.
    """
    folder, entry = ZOO / name, read(f"zoo.models.{name}", ZooModel)
    how = {"entry": entry.model_dump(), "images": artifacts.read_json(dataset / "card.json")}
    if entry.weights == "train":
        how |= {"training": entry.override(read("zoo.training", Training)).model_dump(), "seed": read("run", Run).seed}
    else:
        how |= {"checkpoint": Path(entry.weights).resolve().name}
    if not _missing(folder, how):
        return folder
    if entry.weights == "train":
        zoo_stage.main(dataset, name, folder, Path(f"metrics/{name}.json"), Path(f"metrics/{name}.curve.json"))
        return folder
    classes = data.load(dataset, SCRATCH).images.classes
    model, architecture, expected = create(name, entry, len(classes))
    size = cost.count(model, expected.shape)
    nodes = tuple(entry.nodes)
    card = Card(name, architecture, expected, classes, nodes, entry.weights, entry.licence, size, None)
    files.save(folder, model, card)
    return folder


def _missing(folder: Path, how: dict[str, Any]) -> bool:
    """Whether it has to be made; how: what it depends on, kept beside it. Raises BrickyardError where that is other."""
    kept = folder.with_name(f"{folder.name}.made.json")
    if not (folder / "card.json").exists():
        artifacts.write_json(kept, how)
        return True
    if not kept.exists() or artifacts.read_json(kept) != json.loads(json.dumps(how)):
        raise BrickyardError(f"{folder.resolve()} was made from other params, images or checkpoints; remove it")
    return False
