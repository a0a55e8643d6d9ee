"""What components of a network cost, by their classes: in parts that classes share, or set of classes by set."""

import itertools
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import comb, prod

import numpy as np
import torch
from torch import nn

from ...base.errors import BrickyardError
from ...base.progress import track
from ...channels.channels import Coupling
from ...channels.cutting import shapes
from ...trace.cost import Cost
from ..components.sizing import Sized, UnreachableError

SETS = 4096  # of classes, over all networks, that are priced one by one: four networks with ten classes each
Needed = frozenset[str]  # the classes that need a channel; channels that the same classes need cost alike


@dataclass(frozen=True, eq=False)
class Shared:
    """Prices of parts of a network, by who needs them: a weight between two channels is there when both are.

    A component with some classes pays each price whose every set of classes holds one of its own, and pays it once,
    however many of them share it. Exact, not an estimate: a component's parameters and MACs are the sum.
    """

    parts: Mapping[frozenset[Needed], Cost]

    def cost(self, classes: Collection[str]) -> Cost:
        """What a component with these classes costs; nothing without classes."""
        paid = [cost for who, cost in self.parts.items() if all(not one.isdisjoint(classes) for one in who)]
        return Cost(sum(cost.params for cost in paid), sum(cost.macs for cost in paid)) if classes else Cost()

    def offers(self, classes: Collection[str]) -> bool:
        """Whether there is a component with these classes: always."""
        return True

    def most(self, classes: Collection[str]) -> Cost:
        """What the dearest component with some of these classes costs."""
        return self.cost(classes)

    def of(self, classes: Collection[str]) -> "Shared":
        """The prices without classes other than these."""
        left: dict[frozenset[Needed], Cost] = {}
        for who, cost in self.parts.items():
            key = frozenset(one.intersection(classes) for one in who)
            if all(key):
                left[key] = left.get(key, Cost()) + cost
        return Shared(left)

    def plus(self, each: Cost, classes: Collection[str]) -> "Shared":
        """The prices with `each` added for every one of `classes` that a component has."""
        more = {frozenset({frozenset({name})}): each for name in classes}
        return Shared({**self.parts, **{who: self.parts.get(who, Cost()) + cost for who, cost in more.items()}})

    def sets(self, classes: Sequence[str], least: int) -> Iterator[tuple[tuple[str, ...], Cost]]:
        """Every set of `least` of these classes or more, and what its component costs."""
        bit = {name: 1 << i for i, name in enumerate(classes)}
        needed, paid = list[list[int]](), list[tuple[int, int]]()
        wide = max((len(who) for who in self.parts), default=1)
        for who, cost in self.parts.items():
            masks = [sum(bit.get(name, 0) for name in one) for one in sorted(who, key=sorted)]
            if all(masks):
                needed.append([*masks, *masks[:1] * (wide - len(masks))])
                paid.append((cost.params, cost.macs))
        rows, together = np.unique(np.array(needed, dtype=np.int64).reshape(-1, wide), axis=0, return_inverse=True)
        costs = np.zeros((len(rows), 2), dtype=np.int64)
        np.add.at(costs, together.ravel(), np.array(paid, dtype=np.int64).reshape(-1, 2))
        for own in _sets(classes, least):
            there = (rows & sum(bit[name] for name in own)).all(1)
            params, macs = costs[there].sum(0).tolist()
            yield own, Cost(params, macs)


@dataclass(frozen=True, eq=False)
class Listed:
    """Prices of the components that a network has, by their classes; sets of classes that are not there have none."""

    components: Mapping[frozenset[str], Cost]

    def cost(self, classes: Collection[str]) -> Cost:
        """What the component with these classes costs, which has to be there; nothing without classes."""
        return self.components[frozenset(classes)] if classes else Cost()

    def offers(self, classes: Collection[str]) -> bool:
        """Whether there is a component with these classes."""
        return frozenset(classes) in self.components

    def most(self, classes: Collection[str]) -> Cost:
        """What the dearest component with some of these classes costs, in either unit."""
        own = [cost for who, cost in self.components.items() if who <= frozenset(classes)]
        return Cost(max((cost.params for cost in own), default=0), max((cost.macs for cost in own), default=0))

    def plus(self, each: Cost, classes: Collection[str]) -> "Listed":
        """The prices with `each` added for every one of `classes` that a component has."""
        return Listed(
            {who: sum((each for _ in who.intersection(classes)), cost) for who, cost in self.components.items()}
        )

    def sets(self, classes: Sequence[str], least: int) -> Iterator[tuple[tuple[str, ...], Cost]]:
        """The sets of `least` of these classes or more that have a component, and what it costs."""
        for own in _sets(classes, least):
            if (cost := self.components.get(frozenset(own))) is not None:
                yield own, cost


Prices = Shared | Listed


def shared(model: nn.Module, coupling: Coupling, masks: Mapping[str, torch.Tensor], classes: Sequence[str]) -> Shared:
    """The prices of a network whose channels its `masks` tell, whatever the other classes of a component are.

    masks: layer name -> bool [classes, channels].
    """
    everyone = frozenset(classes)
    needed = dict.fromkeys(range(coupling.count), everyone)
    for layer in coupling.layers:
        for channel, column in zip(layer.outputs, masks[layer.name].T.tolist(), strict=True):
            if channel not in coupling.fixed:
                needed[channel] = frozenset(name for name, wanted in zip(classes, column, strict=True) if wanted)
    params: Counter[frozenset[Needed]] = Counter()
    macs: Counter[frozenset[Needed]] = Counter()
    for path, shape in shapes(model, coupling).items():
        axes = coupling.axes.get(path, (None,) * len(shape))
        each = prod(length for length, row in zip(shape, axes, strict=True) if row is None)
        for who, count in _together([row for row in axes if row is not None], needed):
            params[who or frozenset({everyone})] += each * count
    for layer in coupling.layers:
        rows = [layer.outputs] if layer.groups > 1 else [layer.outputs, layer.inputs]
        for who, count in _together(rows, needed):
            macs[who] += layer.macs // prod(map(len, rows)) * count
    for work in coupling.works:
        for who, count in _together([work.channels], needed) if work.channels else [(frozenset({everyone}), 1)]:
            macs[who] += work.macs // max(1, len(work.channels)) * count
    return Shared({who: Cost(params[who], macs[who]) for who in {**params, **macs} if all(who)})


def listed(channels: Sized, classes: Sequence[str], wanted: Sequence[str], least: int, name: str) -> Listed:
    """The prices of a network's components of one size, each of which keeps other channels: set by set, exactly.

    classes: of the network, in the order of its outputs; wanted: those of them that it may supply, `least` or more at a
    time. Sets of classes whose component cannot have the size are left out. Raises BrickyardError where that leaves
    nothing.
    """
    found: dict[frozenset[str], Cost] = {}
    refused: UnreachableError | None = None
    for own in track(_sets(wanted, least), f"lego.choose: prices of {name}", sets([wanted], least)):
        try:
            found[frozenset(own)] = channels.cost(sorted(classes.index(one) for one in own), name)
        except UnreachableError as error:
            refused = error
    if refused is not None and not found:
        raise BrickyardError(f"lego.choose: {refused}")
    return Listed(found)


def sets(wanted: Sequence[Sequence[str]], least: int) -> int:
    """How many sets of classes all networks together may supply; wanted: the classes of each."""
    return sum(comb(len(own), size) for own in wanted for size in range(max(least, 1), len(own) + 1))


def _sets(classes: Sequence[str], least: int) -> Iterator[tuple[str, ...]]:
    for size in range(max(least, 1), len(classes) + 1):
        yield from itertools.combinations(classes, size)


def _together(rows: Sequence[Sequence[int]], needed: Mapping[int, Needed]) -> list[tuple[frozenset[Needed], int]]:
    """How many combinations of one channel of each row the same sets of classes need."""
    counted = [Counter(needed[channel] for channel in row).items() for row in rows]
    return [
        (frozenset(who for who, _ in combination), prod(count for _, count in combination))
        for combination in itertools.product(*counted)
    ]
