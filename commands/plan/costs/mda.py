"""Needs of MDA's stages: contributions, components, lego."""

from commands.plan.facts import Facts
from commands.plan.machine import AFRESH, Work
from commands.plan.need import Need, forward, learning, opened, regression, running, training
from commands.plan.networks import Network
from lib.params.training import Training

ROWS, JOINT = 2**16, 2**13  # most rows of a regression of a repair, and of one for the layers that read another
UNFOLDED = 2**26  # most numbers of rows that wait
JOINTLY, ITERATIONS = 250, 10  # images and steps of the fit of two layers together
PASSES = 7  # forward passes of both that a step is worth
SUMMED = 2**27  # bytes of contributions that are summed at once
KEPT = 0.7  # of a network's channels stay in a component
SETS = 6  # components that `lego.choose` makes of each network


def contributions(facts: Facts, name: str) -> Need:
    """All train images of the network's classes once, for the most confident ones; of these, a class after the other,
    for each layer an image: inputs times outputs.
    """
    network, train = facts.networks[name], facts.images_of(name, "train")
    classes = facts.images.known(facts.zoo.models[name].classes)
    chosen = min(train, classes * facts.contributions.images_per_class)
    layers = [layer for part in network.parts for layer in part.layers]
    products = chosen * sum(layer.inputs * layer.outputs for layer in layers)
    work = forward(network.parts, train + 2 * chosen) + 2 * opened(network)
    work += Work(products=products, moved=4 * products, decoded=train + chosen, begun=1)
    told = 4 * classes * sum(layer.channels * layer.outputs for layer in layers)
    memory = running(network, facts.contributions.batch_size) + facts.kept(train, network.size) + told + SUMMED
    masks = classes * sum(layer.outputs for layer in layers)
    return Need(f"{train:,} images, {len(layers)} layers", work, memory, 2 * masks)


def components(facts: Facts, name: str) -> Need:
    """A repair: each layer's regression, again for each of `steps`; `joint` times for the layers that read it, with
    passes of both forward and back; then the classifier's, on more images; a tuning where one is wanted.
    """
    task = facts.components.tasks[name]
    network, train, test = (
        facts.networks[task.model],
        *(facts.images.of(part, task.classes) for part in ("train", "test")),
    )
    work = Work(begun=1, started=0.3, decoded=train + test) + 3 * opened(network)
    work += 3 * forward(network.parts, test) + _repair(facts, network, train)
    memory = _repairing(facts, network, train) + facts.kept(train + test, network.size) + running(network, 256)
    kept, scratch = 4 * network.params, 0
    if facts.components.tuning is not None:
        more, memory_of = _tuned(facts.components.tuning, network, train)
        work, memory, scratch = work + more, max(memory, memory_of), 12 * network.params
    return Need(f"{task.model}, {train:,} images", work, memory, kept, scratch)


def _repair(facts: Facts, network: Network, train: int) -> Work:
    how = facts.components.repair
    images = min(how.images, train) * (2 if how.mirror else 1)
    work = 2 * forward(network.parts, images)
    if how.method != "ridge":
        return work
    for part in network.parts:
        for i, layer in enumerate(part.layers):
            inputs, outputs = KEPT * layer.inputs, KEPT * layer.outputs
            work += regression(images * min(layer.positions, max(1, ROWS // images)), inputs, outputs, how.steps)
            few = min(JOINTLY, images)
            own = KEPT**2 * sum(one.inputs * one.outputs * one.positions for one in part.layers[i : i + 2])
            moved = 2 * part.made * min(2, len(part.layers)) // len(part.layers)
            passes = PASSES * ITERATIONS * few * (Work(macs=own) + _bytes(moved, few))
            rows = few * min(layer.positions, max(1, JOINT // few))
            work += how.joint * (regression(rows, inputs, outputs, how.steps) + passes)
    if how.classifier == "answers":
        work += 2 * forward(network.parts, min(how.classifier_images, train))
    return work


def _bytes(moved: int, images: int) -> Work:
    """Of one image among some, which go through an operation together."""
    return Work(afresh=moved) if moved / 2 * images >= AFRESH else Work(moved=moved)


def _repairing(facts: Facts, network: Network, train: int) -> float:
    """Bytes that a repair holds: what is alive of both networks on its images, and rows of the widest regression."""
    how = facts.components.repair
    images = min(how.images, train) * (2 if how.mirror else 1)
    layers = [layer for part in network.parts for layer in part.layers]
    rows = max(min(UNFOLDED, min(ROWS, images * layer.positions) * layer.inputs) for layer in layers)
    return 2 * images * max(part.peak + part.leaving for part in network.parts) + 2 * 4 * rows


def _tuned(how: Training, network: Network, train: int) -> tuple[Work, int]:
    taught = forward(network.parts, how.epochs * train) if how.distillation > 0 else Work()
    return training(network, train, how.epochs, how.batch_size) + taught, learning(network, how.batch_size)


def lego(facts: Facts, _: str) -> Need:
    """Components and whole sources answer train, validation and test images of their classes; where components are to
    be chosen, they are made first, some of each network.
    """
    given, tasks = facts.lego, facts.components.tasks
    names = given.choose.models if given.choose else [tasks[name].model for name in given.components or ()]
    own = [facts.networks[name] for name in names]
    counts = facts.images.counts
    scaling = min(counts["train"], given.scaling_images_per_class * len(facts.images.classes))
    asked = scaling + counts["validation"] + counts["test"]
    side = max(network.size for network in own)
    work = Work(begun=1, started=1, decoded=asked) + sum(
        (2 * forward(one.parts, asked) + opened(one) for one in own), Work()
    )
    memory = sum(running(one, 256) for one in own) + facts.kept(asked, side)
    if given.choose:
        work += sum((SETS * _repair(facts, one, counts["train"]) for one in own), Work())
        work += sum((forward(one.parts, counts["validation"]) for one in facts.networks.values()), Work())
        memory += max(_repairing(facts, one, counts["train"]) for one in own)
    params = sum(network.params for network in own)
    if given.tuning is not None:
        for network in own:
            more, memory_of = _tuned(given.tuning, network, counts["train"])
            work, memory = work + more, memory + memory_of
    about = f"{len(own)} networks, {asked:,} images"
    return Need(about, work, memory, 4 * params, 12 * params if given.tuning else 0)
