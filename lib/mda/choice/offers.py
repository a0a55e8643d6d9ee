"""Which network may supply which class, at what price: the problem that an architect of components solves."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from ...trace.cost import Cost
from .prices import Listed, Prices


@dataclass(frozen=True)
class Source:
    """A network that can supply classes. accuracy: class -> share of its images in percent, see `Kept.at_best`."""

    name: str
    accuracy: Mapping[str, float]
    prices: Prices

    @cached_property
    def _paid(self) -> dict[frozenset[str], Cost]:
        return {}

    @cached_property
    def _sets(self) -> dict[tuple[tuple[str, ...], int], list[tuple[tuple[str, ...], Cost]]]:
        return {}

    def cost(self, classes: Collection[str]) -> Cost:
        """Parameters and MACs of its component with these classes; nothing without classes."""
        key = frozenset(classes)
        if key not in self._paid:
            self._paid[key] = self.prices.cost(classes)
        return self._paid[key]

    def sets(self, classes: Sequence[str], least: int) -> list[tuple[tuple[str, ...], Cost]]:
        """Every set of `least` or more of these classes that it knows, if it has a component, and what that costs."""
        key = (tuple(classes), least)
        if key not in self._sets:
            self._sets[key] = list(self.prices.sets(self.known(classes), least))
            self._paid.update({frozenset(own): cost for own, cost in self._sets[key]})
        return self._sets[key]

    def offers(self, classes: Sequence[str]) -> bool:
        """Whether it has a component with these classes."""
        return len(self.known(classes)) == len(classes) and self.prices.offers(classes)

    def known(self, classes: Sequence[str]) -> list[str]:
        """Which of some classes the network knows."""
        return [name for name in classes if name in self.accuracy]


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
        """The limits that there are."""
        both = {"params": self.params, "macs": self.macs}
        return {kind: limit for kind, limit in both.items() if limit is not None}

    @property
    def is_listed(self) -> bool:
        """Whether any network's components are priced set of classes by set of classes."""
        return any(isinstance(source.prices, Listed) for source in self.sources)

    def taken(self, assignment: Sequence[int]) -> dict[int, tuple[str, ...]]:
        """Source -> the classes that an assignment takes from it; sources without any are left out."""
        taken: dict[int, tuple[str, ...]] = {}
        for name, source in zip(self.classes, assignment, strict=True):
            taken[source] = (*taken.get(source, ()), name)
        return taken

    def tasks(self, assignment: Sequence[int]) -> dict[str, tuple[str, ...]]:
        """Source name -> the classes that an assignment takes from it, in the order of the sources."""
        return {self.sources[m].name: own for m, own in sorted(self.taken(assignment).items())}

    def cost(self, assignment: Sequence[int]) -> Cost:
        """What an assembly costs: the sum over its components."""
        return sum((self.sources[source].cost(names) for source, names in self.taken(assignment).items()), Cost())

    def is_legal(self, assignment: Sequence[int]) -> bool:
        """Whether its components are there, and as many, with as many classes and as dear as they may be."""
        taken = self.taken(assignment)
        return (
            (self.most is None or len(taken) <= self.most)
            and all(len(own) >= self.least and self.sources[m].offers(own) for m, own in taken.items())
            and self.cost(assignment).within(**self.limits)
        )

    def accuracy(self, assignment: Sequence[int]) -> float:
        """In percent, the mean over classes of their source's: a bound on what the combination has."""
        found = [self.sources[source].accuracy[name] for name, source in zip(self.classes, assignment, strict=True)]
        return sum(found) / len(found)

    def scale(self, kind: str) -> float:
        """A number of the order of a cost, `params` or `macs`: its limit, or all sources with everything."""
        whole = sum(getattr(source.prices.most(self.classes), kind) for source in self.sources)
        return self.limits.get(kind, max(whole, 1))
