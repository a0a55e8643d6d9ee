"""What stages will take: as they took here before, made larger or smaller as their work is; else by formula alone."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace

from commands import SCRATCH
from commands.fleet.stages import Stage
from commands.plan import images as lib_images
from commands.plan import machine as lib_machine
from commands.plan.costs import COSTS
from commands.plan.facts import Facts, gather
from commands.plan.machine import Machine
from lib.base import usage
from lib.base.errors import BrickyardError
from lib.base.usage import Usage
from lib.params import base, document
from lib.params.sections import SECTIONS

USAGE = SCRATCH / "usage"
COPIES = 2  # of an artifact: where it lies, and in DVC's cache, which links them where the file system can


@dataclass(frozen=True)
class Estimate:
    """What a stage will take. None: nobody knows.

    about: what it works on, in words.
    seconds: from its start to its end.
    memory: bytes at its peak, in all.
    kept: bytes of its artifacts.
    scratch: bytes of temporary files.
    before: whether it is told by what the stage took here before.
    """

    about: str = ""
    seconds: float | None = None
    memory: float | None = None
    kept: float | None = None
    scratch: float | None = None
    before: bool = False

    @property
    def disk(self) -> float | None:
        """Bytes that it takes from the disk: artifacts and DVC's copies of them, temporary files."""
        return None if self.kept is None or self.scratch is None else COPIES * self.kept + self.scratch


def estimates(names: Iterable[str], started: float) -> dict[str, Estimate]:
    """Of stages that will run, by their names. Raises BrickyardError where params.yaml, or a network, is not right.

    started: seconds that this process has taken to import what stages import.
    """
    wanted, given, known = list(names), base.read_all(), usage.load(USAGE)
    source, run = given.dataset, given.run
    assert source is not None
    assert run is not None
    images = lib_images.count(source, changed="dataset" in wanted)
    if images is None:
        return {name: _as_before(known.get(name)) for name in wanted}
    facts = gather(given, images)
    side = max(network.size for network in facts.networks.values())
    machine = lib_machine.measure(run.threads, lambda: lib_images.seconds(images, source, side), started)
    earlier = _Earlier(facts)
    return {name: _estimate(name, facts, machine, known.get(name), earlier) for name in wanted}


def _as_before(taken: Usage | None) -> Estimate:
    return Estimate() if taken is None else Estimate("", taken.seconds, taken.memory or None, before=True)


def _estimate(name: str, facts: Facts, machine: Machine, taken: Usage | None, earlier: "_Earlier") -> Estimate:
    kind, _, item = name.partition("@")
    if kind not in COSTS:
        return _as_before(taken)
    need = COSTS[kind](facts, item)
    on_device = Stage(name, ()).gpu
    seconds, memory = machine.seconds(need.work, on_device), machine.held + need.memory
    then = None if taken is None or taken.device != usage.device() else earlier.of(taken)
    try:
        old = None if then is None else COSTS[kind](then, item)
    except (KeyError, IndexError):  # there was no such item
        old = None
    if taken is None or old is None:
        return Estimate(need.about, seconds, memory, need.kept, need.scratch)
    seconds *= taken.seconds / machine.seconds(old.work, on_device)
    if taken.memory:
        memory = max(min(machine.held, taken.memory), taken.memory + need.memory - old.memory)
    return Estimate(need.about, seconds, memory, need.kept, need.scratch, before=True)


class _Earlier:
    """What runs were about that have left a record; now: what this one is about."""

    def __init__(self, now: Facts) -> None:
        self._now, self._known = now, dict[str, Facts | None]()

    def of(self, taken: Usage) -> Facts | None:
        """None where its params, or its networks, are none that this code knows."""
        key = json.dumps([taken.params, taken.images], sort_keys=True)
        if key not in self._known:
            self._known[key] = self._gathered(taken)
        return self._known[key]

    def _gathered(self, taken: Usage) -> Facts | None:
        sections, mistakes = document.check({name: own for name, own in taken.params.items() if name in SECTIONS})
        if mistakes or None in vars(sections).values():
            return None
        counts = {**self._now.images.counts, **taken.images}
        if all(getattr(self._now, name) == own for name, own in vars(sections).items()):
            return replace(self._now, images=replace(self._now.images, counts=counts))
        try:
            return gather(sections, replace(self._now.images, counts=counts))
        except BrickyardError:
            return None
