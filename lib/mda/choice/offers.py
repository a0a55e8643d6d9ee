"""Which network may supply which class, at what price: the problem that an architect of components solves."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from ...trace.cost import Cost
from .prices import Listed, Prices


@dataclass(frozen=True)
class Source:
    """A network that can supply classes. accuracy: class -> validation accuracy on its images, in percent."""

    name: str
    accuracy: Mapping[str, float]
    prices: Prices

    def cost(self, classes: Collection[str]) -> Cost:
        """Parameters and MACs of its component with these classes; nothing without classes."""
        return self.prices.cost(classes)

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

    def cost(self, assignment: Sequence[int]) -> Cost:
        """What an assembly costs: the sum over its components."""
        return sum((self.sources[source].cost(names) for source, names in self.taken(assignment).items()), Cost())

    def accuracy(self, assignment: Sequence[int]) -> float:
        """Predicted, in percent: the mean over classes of their source's, as if no component shouted others down."""
        found = [self.sources[source].accuracy[name] for name, source in zip(self.classes, assignment, strict=True)]
        return sum(found) / len(found)

    def scale(self, kind: str) -> float:
        """A number of the order of a cost, `params` or `macs`: its limit, or all sources with everything."""
        whole = sum(getattr(source.prices.most(self.classes), kind) for source in self.sources)
        return self.limits.get(kind, max(whole, 1))
