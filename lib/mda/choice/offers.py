"""Which network may supply which class, at what price: the problem that an architect of components solves."""

import itertools
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod

import torch
from torch import nn

from ...channels.channels import Coupling
from ...channels.cutting import shapes
from ...trace.cost import Cost

Needed = frozenset[str]  # the classes that need a channel; channels that the same classes need cost alike
Prices = Mapping[frozenset[Needed], Cost]


def prices(
    model: nn.Module, coupling: Coupling, masks: Mapping[str, torch.Tensor], classes: Sequence[str]
) -> dict[frozenset[Needed], Cost]:
    """What parts of a network cost, by who needs them: a weight between two channels is there when both are.

    masks: layer name -> bool [classes, channels]. A component with some classes pays each price whose every set of
    classes holds one of its own, and pays it once, however many of them share it. Exact, not an estimate: a component's
    parameters and MACs are the sum.
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
    return {who: Cost(params[who], macs[who]) for who in {**params, **macs} if all(who)}


def _together(rows: Sequence[Sequence[int]], needed: Mapping[int, Needed]) -> list[tuple[frozenset[Needed], int]]:
    """How many combinations of one channel of each row the same sets of classes need."""
    counted = [Counter(needed[channel] for channel in row).items() for row in rows]
    return [
        (frozenset(who for who, _ in combination), prod(count for _, count in combination))
        for combination in itertools.product(*counted)
    ]


@dataclass(frozen=True)
class Source:
    """A network that can supply classes. accuracy: class -> validation accuracy on its images, in percent."""

    name: str
    accuracy: Mapping[str, float]
    prices: Prices

    def cost(self, classes: Collection[str]) -> Cost:
        """Parameters and MACs of its component with these classes; nothing without classes."""
        paid = [cost for who, cost in self.prices.items() if all(not one.isdisjoint(classes) for one in who)]
        return Cost(sum(cost.params for cost in paid), sum(cost.macs for cost in paid)) if classes else Cost()

    def of(self, classes: Collection[str]) -> "Source":
        """The same without other classes."""
        left: dict[frozenset[Needed], Cost] = {}
        for who, cost in self.prices.items():
            key = frozenset(one.intersection(classes) for one in who)
            if all(key):
                left[key] = left.get(key, Cost()) + cost
        known = {name: self.accuracy[name] for name in classes if name in self.accuracy}
        return Source(self.name, known, left)


@dataclass(frozen=True)
class Problem:
    """classes: in the order of the outputs; params, macs: of the whole assembly in parallel form, None = no limit;
    least: classes that a source supplies if it supplies any (a component with one class answers it for every image);
    most: sources that supply any, at most, None = no limit.
    """

    classes: tuple[str, ...]
    sources: tuple[Source, ...]
    params: float | None = None
    macs: float | None = None
    least: int = 1
    most: int | None = None

    @cached_property
    def limits(self) -> dict[str, float]:
        """Those that there are."""
        both = {"params": self.params, "macs": self.macs}
        return {kind: limit for kind, limit in both.items() if limit is not None}

    def taken(self, assignment: Sequence[int]) -> dict[int, tuple[str, ...]]:
        """Source -> the classes that an assignment takes from it; sources without any are left out."""
        taken: dict[int, tuple[str, ...]] = {}
        for name, source in zip(self.classes, assignment, strict=True):
            taken[source] = (*taken.get(source, ()), name)
        return taken

    def cost(self, assignment: Sequence[int]) -> Cost:
        """Of an assembly: the sum over its components."""
        return sum((self.sources[source].cost(names) for source, names in self.taken(assignment).items()), Cost())

    def accuracy(self, assignment: Sequence[int]) -> float:
        """Predicted, in percent: the mean over classes of their source's, as if no component shouted others down."""
        found = [self.sources[source].accuracy[name] for name, source in zip(self.classes, assignment, strict=True)]
        return sum(found) / len(found)

    def scale(self, kind: str) -> float:
        """A number of the order of a cost, `params` or `macs`: its limit, or all sources with everything."""
        whole = sum(getattr(source.cost(self.classes), kind) for source in self.sources)
        return self.limits.get(kind, max(whole, 1))
