"""Looks at everything that `dvc repro` would use, in seconds and without training: python -m commands.check.

Reads params.yaml, the images, the networks' code and checkpoints, and the budgets; prints all mistakes, one a line.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import torch

from commands import SCRATCH, in_one_line
from lib.base.errors import BrickyardError
from lib.base.progress import track
from lib.chain import latency
from lib.chain.chain import Chain
from lib.channels.coupling import couple, keeping
from lib.dery.assembly import prices
from lib.dery.assembly.material import open_bricks
from lib.dery.partition.sets import Partition
from lib.dery.paths import feasibility, search
from lib.images import agreement, data, sources
from lib.params.base import PARAMS, load
from lib.params.sections import SECTIONS, Sections
from lib.params.zoo import ZooModel
from lib.trace import graph
from lib.zoo.create import check_pretrained, create

DECODED = 32  # images that are looked at
ZOO, PARTITION, LATENCY = Path("artifacts/zoo"), Path("artifacts/partition/partition.json"), Path("data/latency.json")
ASSUMED = 10  # classes of a network whose classes cannot be told


def main() -> bool:
    """Prints mistakes, or what is there; returns whether all is right."""
    lines: list[str] = []
    found = load()
    lines += [f"{PARAMS}: {line}" for line in found.mistakes]
    lines += [f"{PARAMS}: {name} is missing" for name in SECTIONS if name not in found.values]
    images = _images(found.sections, lines)
    networks = found.sections.zoo.models if found.sections.zoo else {}
    for name in track(list(networks), "check"):
        try:
            lines += _network(name, networks[name], found.sections, images)
        except BrickyardError as error:
            lines.append(str(error))
    assembly = found.sections.assembly
    if assembly is not None and {assembly.budget.latency, assembly.budget.at_least.latency} != {None}:
        try:
            latency.load(LATENCY)
        except BrickyardError as error:
            lines.append(str(error))
    budgets = "" if lines or images is None else _budgets(found.sections, images, lines)
    print("\n".join(dict.fromkeys(lines)), end="\n" if lines else "")
    if not lines and images is not None:
        count, classes = len(images.images), len(images.classes)
        print(f"ok: {len(networks)} networks, {count} images, {classes} classes; {budgets}")
    return not lines


def _images(given: Sections, lines: list[str]) -> data.DataSet | None:
    """The images, some of them decoded, divided as stage `dataset` will; None where they cannot be."""
    if given.dataset is None or given.run is None:
        return None
    try:
        images = sources.open_images(given.dataset, SCRATCH)
        for i in range(0, len(images), max(1, len(images) // DECODED)):
            images.image(i)
        split = data.split(images, given.dataset, given.run.seed)
    except BrickyardError as error:
        lines.append(str(error))
        return None
    lines += [f"{PARAMS}: {line}" for line in agreement.mistakes(given, split)]
    return split


def _network(name: str, entry: ZooModel, given: Sections, images: data.DataSet | None) -> Iterator[str]:
    """What is wrong with a network, built and filled from its checkpoint as stage `zoo` will; others' weights are not
    downloaded. Raises BrickyardError.
    """
    count = None
    if entry.classes != "own":
        names = images.classes if images else [str(i) for i in range(ASSUMED)]
        try:
            count = len(data.parse_classes(entry.classes, names, f"zoo.models.{name}.classes"))
        except BrickyardError:
            count = ASSUMED  # told before, where the images are there
    check_pretrained(name, entry, count)
    local = entry.model_copy(update={"weights": "train"}) if entry.weights == "pretrained" else entry
    model, _, expected = create(name, local, count)
    chain = Chain(name, model, expected.shape, declared=entry.nodes)
    chain.verify(torch.rand(2, *expected.shape, generator=torch.Generator().manual_seed(0)))
    if given.partition and len(chain) < given.partition.num_blocks:
        yield f"{PARAMS}: partition.num_blocks = {given.partition.num_blocks}: {name} has {len(chain)} nodes"
    if given.contributions and name in given.contributions.models:
        coupling = couple(graph.trace(model, name, expected.shape, costs=False), name)
        keeping(coupling, given.components.keep if given.components else [], dict(model.named_modules()), name)


def _budgets(given: Sections, images: data.DataSet, lines: list[str]) -> str:
    """Whether any candidate meets the budgets, where the networks and their cuts are there; what can be said of it."""
    assembly, partition, zoo_params, run = given.assembly, given.partition, given.zoo, given.run
    joining = given.edges
    assert joining is not None
    assert assembly is not None
    assert partition is not None
    assert zoo_params is not None
    assert run is not None
    names = sorted(zoo_params.models)
    try:
        if not PARTITION.exists() or not all((ZOO / name / "card.json").exists() for name in names):
            return "whether a candidate meets the budgets is known after stage partition"
        found = Partition.read(PARTITION)
        if sorted(found.networks) != names or found.num_blocks != partition.num_blocks:
            return "whether a candidate meets the budgets is known after stage partition has run again"
        bricks = open_bricks(ZOO, names, found.cuts, images, joining, run.seed, assembly, zoo_params.models)
        problem = prices.assembly_problem(bricks, assembly, LATENCY)
        if search.best(problem, 1).candidates:
            return "some candidate meets the budgets"
        if joining.window or (given.bricks and (given.bricks.skip or given.bricks.narrow)):
            return (
                "no candidate of whole blocks meets the budgets; whether another one does is known after stage assembly"
            )
        raise feasibility.explain(problem)
    except BrickyardError as error:
        lines.append(str(error))
        return ""


if __name__ == "__main__":
    with in_one_line("check"):
        right = main()
    sys.exit(not right)
