"""Needs of DeRy's last stages: assembly and finetune."""

from dataclasses import replace
from math import comb

from commands.plan.costs.dery import refitted
from commands.plan.facts import Facts
from commands.plan.machine import Work
from commands.plan.need import BACKWARD, LEARNING, STEPPED, Need, forward, opened

PUT_TOGETHER = 0.05  # starts of a process that copying and counting a candidate is worth
BEHIND = 0.75  # of the nodes behind the first cut, those behind a chain's first stitch
SPARED = 0.7  # of its budget, what a candidate needs
OPEN = 8  # networks in memory at once
NASWOT = 160  # images
TRIED = 3e-5  # starts of a process that judging a set of tails is worth
EXACT = 20_000  # sets of tails of a size that are looked at


def assembly(facts: Facts, _: str) -> Need:
    """Chains of the pool and random ones, each under every treatment: its blocks behind the first stitch are run, and
    refitted where a treatment says so, on edges.images; all of them answer the ranking images; trees of up to
    `tails` of them are judged by logits alone; what is ranked is shown to the proxies.
    """
    given, n, count = facts.assembly, facts.fit, len(facts.networks)
    treatments = given.treatments
    layers = sum(treatment in ("layers", "layers_and_head") for treatment in treatments)
    ranking = facts.images.counts[given.rank_on]
    ranking = min(ranking, given.rank_images or ranking)
    test, validation = facts.images.counts["test"], facts.images.counts["validation"]
    headless = sum(
        entry.classes != "all" for entry in facts.zoo.models.values()
    )  # of the others stage zoo has measured
    random = max(given.random_assemblies, given.random_search)
    chains = given.pool + given.random_assemblies + 1
    typical = _typical(facts, given.batch_size)
    fitted = _mean([refitted(facts, one, facts.cuts[one.name][1], n) for one in facts.networks.values()])
    run = _of(typical, n)
    work = chains * (len(treatments) * run + min(layers, 1) * (BEHIND * fitted + run))
    work += random * (2 * run + 2 * _of(typical, NASWOT))
    work += _of(typical, (chains * len(treatments) + 2 * count) * ranking + random * test)
    work += _of(typical, headless * (test + validation))
    ranked = given.pool + given.trees
    work += ranked * (4 * _of(typical, NASWOT) + Work(started=PUT_TOGETHER))
    work += (random + chains * len(treatments)) * Work(started=PUT_TOGETHER / 2)
    reopened = 1 + chains * max(0, 1 - OPEN / count)
    work += reopened * sum(map(opened, facts.networks.values()), Work())
    members = chains * len(treatments) + count
    sets = sum(min(EXACT, comb(members, size)) for size in range(2, given.tails + 1))
    head_images = 0 if all(entry.classes == "all" for entry in facts.zoo.models.values()) else given.head_images
    images = n + ranking + validation + test + head_images
    side = max(network.size for network in facts.networks.values())
    inputs = len({network.size for network in facts.networks.values()})
    work += Work(decoded=inputs * images, begun=1, started=TRIED * sets)
    weights = 4 * max(network.params for network in facts.networks.values())
    widest = max(layer.inputs for one in facts.networks.values() for node in one.nodes for layer in node.layers)
    waiting = 5 * min(
        facts.room / 8, 4 * n * max(node.leaving for one in facts.networks.values() for node in one.nodes)
    )
    memory = facts.room / 4 + waiting + OPEN * weights + inputs * facts.kept(images, side) + 60 * widest**2
    kept = 4 * _params(facts)
    about = f"{given.pool} candidates, {random} random, {n:,} images"
    return Need(about, work, memory, 2 * len(facts.finetune.ranks) * kept, chains * min(2, 1 + layers) * kept)


def _mean(works: list[Work]) -> Work:
    return sum(works, Work()) * (1 / len(works))


def _typical(facts: Facts, batch: int) -> Work:
    """Of one image in a batch, in the mean of all networks; operations of the batch."""
    whole = _mean([forward(network.parts, batch, batch) for network in facts.networks.values()])
    return replace(whole * (1 / batch), calls=whole.calls)


def _of(typical: Work, images: float, batch: int = 64) -> Work:
    """Of what one image needs, that of so many."""
    whole = images * typical
    return replace(whole, calls=typical.calls * -(-images // batch))


def _params(facts: Facts) -> float:
    """Of a candidate: as many as the budget admits, or as a network has in the mean."""
    mean = sum(one.params for one in facts.networks.values()) / len(facts.networks)
    return min(mean, facts.assembly.budget.limits().get("params", mean))


def finetune(facts: Facts, _: str) -> Need:
    """Three networks of the budget's size (the candidate, itself from scratch, the best of the zoo), each trained for
    the epochs of both protocols; test images after each.
    """
    given, train = facts.finetune, facts.images.counts["train"]
    validation, test = facts.images.counts["validation"], facts.images.counts["test"]
    typical, limits = _typical(facts, given.full.batch_size), facts.assembly.budget.limits()
    share = min(1.0, SPARED * limits.get("macs", 1e18) / typical.macs)
    params = _params(facts)
    made = share * max(sum(part.made for part in one.parts) for one in facts.networks.values())
    side = max(network.size for network in facts.networks.values())
    work = Work(begun=1, started=0.3)
    for settings in (given.frozen, given.full):
        steps = settings.epochs * -(-train // settings.batch_size)
        own = _of(share * typical, settings.epochs * train, settings.batch_size)
        taught = len(facts.networks) if settings.teacher == "ensemble" else 1
        passes = 1 + BACKWARD + (taught if settings.distillation > 0 else 0)
        own = passes * own + Work(moved=STEPPED * params * steps)
        own += _of(share * typical, settings.epochs * validation + test)
        work += 3 * own
    epochs = given.frozen.epochs + given.full.epochs
    work += Work(decoded=3 * (facts.decoded(train, side, epochs) + facts.decoded(validation, side, epochs) + test))
    batch = max(given.frozen.batch_size, given.full.batch_size)
    memory = LEARNING * 2 * params + batch * made + facts.kept(train + validation + test, side)
    about = f"{train:,} images, 3 networks, {epochs} epochs"
    return Need(about, work, memory, 4 * params, 12 * params)
