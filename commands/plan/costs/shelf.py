"""Needs of the stages around the two papers: code, dataset, zoo, report."""

from commands.plan.facts import Facts
from commands.plan.machine import Work
from commands.plan.need import Need, forward, learning, opened, running, training

READ = 0.2  # of the time that decoding an image takes, to hash its file
PAGE = 3 * 2**20  # bytes of the page
CODE = 0.5  # starts of a process that following all imports is worth


def code(_: Facts, __: str) -> Need:
    """The imports of every stage, followed and hashed."""
    return Need("imports of all stages", Work(begun=1, started=CODE))


def dataset(facts: Facts, _: str) -> Need:
    """Every file, read once for its checksum; an index of 8 bytes for each image."""
    every = sum(facts.images.counts[part] for part in ("train", "validation", "test"))
    return Need(f"{every:,} images", Work(decoded=READ * every, begun=1), kept=8 * every)


def zoo(facts: Facts, name: str) -> Need:
    """Training: epochs times train images, forward and back (about 3 MACs for each of a forward pass), validation
    images after each epoch; then validation and test images once. Weights are not trained here: these alone.
    """
    network, entry = facts.networks[name], facts.zoo.models[name]
    train, validation, test = (facts.images_of(name, part) for part in ("train", "validation", "test"))
    side, settings = network.size, entry.override(facts.zoo.training)
    epochs = settings.epochs if entry.weights == "train" else 0
    work = opened(network) + Work(begun=1, written=4 * network.params)
    if entry.classes == "own":
        return Need("weights from elsewhere", work, running(network, 1), 4 * network.params)
    work += forward(network.parts, (epochs + 1) * validation + test, settings.batch_size)
    work += Work(decoded=facts.decoded(validation, side, epochs + 1) + test)
    waiting = facts.kept(validation, side) + facts.kept(test, side)
    if not epochs:
        about = f"{validation + test:,} images"
        return Need(about, work, waiting + running(network, settings.batch_size), 4 * network.params)
    changed = settings.augmentation
    anew = changed.crop_padding or changed.flip or changed.randaugment  # images change before they are scaled
    work += training(network, train, epochs, settings.batch_size)
    work += Work(decoded=train * epochs if anew else facts.decoded(train, side, epochs))
    memory = waiting + learning(network, settings.batch_size) + (0 if anew else facts.kept(train, side))
    about = f"{train:,} images, {epochs} epochs"
    return Need(about, work, memory, 4 * network.params, 12 * network.params)


def report(facts: Facts, _: str) -> Need:
    """One page of figures."""
    return Need("one page", Work(begun=1, started=0.3), kept=PAGE)
