"""The channels of a task's component: the union over its classes, at the thresholds as they are or at a target size."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Literal

import torch
from jaxtyping import Float64
from torch import nn

from ...base.errors import BrickyardError
from ...channels.channels import Coupling
from ...channels.coupling import couple, keeping
from ...channels.cutting import Scales, indices
from ...images.data import Batch
from ...params.components import Size
from ...params.contributions import Contributions
from ...trace import graph
from ...trace.cost import Cost
from ..contributions.masks import Evidence, Thresholds, scaled
from ..contributions.scores import gather

_EXACT = 0.02  # of the target, within which it must be hit
_REMEMBERED = 1024  # margins, one number a channel each
_HALVINGS = 24  # of the range of factors, to a ten-millionth of it


class UnreachableError(BrickyardError):
    """A size that a task's component cannot have."""


@dataclass(frozen=True, eq=False)
class Masked:
    """Which channels components keep where the thresholds of `contributions` say so.

    masks: layer name -> bool [classes, channels], as stage `contributions` stores them.
    """

    masks: Mapping[str, torch.Tensor]

    def kept(self, outputs: Sequence[int], who: str) -> dict[str, tuple[int, ...]]:
        """Layer name -> the output channels that at least one class of a task needs (MDA, section 3.1).

        outputs: of the source, of the task's classes; who: the component, for errors.
        """
        rows = list(outputs)
        return {
            layer: tuple(mask[rows].any(0).nonzero().flatten().tolist()) for layer, mask in sorted(self.masks.items())
        }


@dataclass(frozen=True, eq=False)
class Sized:
    """Which channels components keep where their size is given. Not in the paper.

    evidence: what speaks for the channels, for all classes that are asked for.
    scales: what components cost.
    target: a fraction of the source's size and its unit; None: thresholds as they are, one channel a layer at least.
    """

    evidence: Evidence
    scales: Scales
    thresholds: Thresholds
    target: tuple[float, Literal["params", "macs"]] | None

    def kept(self, outputs: Sequence[int], who: str) -> dict[str, tuple[int, ...]]:
        """Layer name -> the output channels that a task's component keeps; arguments as for `Masked.kept`.

        Raises UnreachableError naming `who` as `select`.
        """
        return indices(self.evidence.coupling, self._channels(outputs, who))

    def cost(self, outputs: Sequence[int], who: str) -> Cost:
        """Parameters and MACs of that component. Raises as `kept`."""
        return self.scales.cost(self._channels(outputs, who))

    def _channels(self, outputs: Sequence[int], who: str) -> frozenset[int]:
        if self.target is None:
            return _kept(union(self.evidence, outputs, self.thresholds))
        return select(self.evidence, outputs, self.thresholds, self.scales, *self.target, who).channels


Channels = Masked | Sized


def sized(
    network: nn.Module,
    shape: tuple[int, ...],
    images: Mapping[int, Iterable[Batch]],
    params: Contributions,
    size: Size,
    seed: int,
    who: str,
    keep: Sequence[str] = (),
) -> Sized:
    """The channels of a network's components of one size, for some of its classes.

    network: in eval mode.
    shape: of an image, [3, h, w].
    images: output -> batches of its class's selected images, for the classes that will be asked for.
    params: how contributions are found, and the thresholds that one factor scales.
    size: of every component.
    seed: of random scores.
    who: the network, for errors.
    keep: paths of modules whose channels stay (see `lib.channels.coupling.keeping`).
    """
    coupling = couple(graph.trace(network, who, shape), who)
    coupling = keeping(coupling, keep, dict(network.named_modules()), who)
    found = gather(network, coupling, images, params, seed, who)
    evidence = _Remembering(coupling, found.soft, found.scores, found.binary)
    return Sized(evidence, Scales(network, coupling), params.thresholds, size.target)


class _Remembering(Evidence):
    """Evidence that remembers the last margins: of many sets of classes the sizes are found at the same factors."""

    def margins(self, output: int, thresholds: Thresholds) -> Float64[torch.Tensor, " channels"]:
        return self._at(output, tuple(thresholds.items()))

    @cached_property
    def _at(self) -> Callable[..., torch.Tensor]:
        return lru_cache(_REMEMBERED)(lambda output, at: Evidence.margins(self, output, dict(at)))


@dataclass(frozen=True)
class Selection:
    """The channels of a component of a given size.

    channels: of the coupling that stay.
    factor: on all thresholds.
    share: of the source's size.
    """

    channels: frozenset[int]
    factor: float
    share: float


def union(evidence: Evidence, outputs: Sequence[int], thresholds: Thresholds) -> Float64[torch.Tensor, " channels"]:
    """How far above its threshold every channel is for the task's class that needs it most, float [channels].

    The strongest channel of a layer is above, whatever the thresholds.
    """
    margins = torch.stack([evidence.margins(output, thresholds) for output in outputs]).amax(0)
    return _never_empty(margins, evidence.coupling)


def select(
    evidence: Evidence,
    outputs: Sequence[int],
    thresholds: Thresholds,
    scales: Scales,
    target: float,
    unit: Literal["params", "macs"],
    who: str,
) -> Selection:
    """The channels whose component has `target` times the source's size, found by one factor on all thresholds.

    The factor is found by bisection. Where one step of it jumps over the target, the channels between both sides stay
    in the order of their margins: so any size can be hit but for the channels of the last one. Raises UnreachableError
    naming `who` when the target is smaller than what the highest thresholds leave, one channel a layer or more, or
    larger than what thresholds of zero leave.
    """

    def measured(channels: frozenset[int]) -> float:
        return _of(scales.cost(channels), unit) / whole

    whole = _of(scales.cost(range(evidence.coupling.count)), unit)
    low, high = 0.0, max(1 / min(t.alpha, t.beta) for t in thresholds.values())
    everything = union(evidence, outputs, thresholds) + torch.where(_logits(evidence.coupling), 0.0, 9.0)
    large, small = everything, union(evidence, outputs, scaled(thresholds, high))
    if measured(_kept(small)) > target:
        raise UnreachableError(
            f"{who}: components.size: its smallest component has {measured(_kept(small)):.4f} of the source's {unit}; "
            f"{target} cannot be reached"
        )
    if measured(_kept(large)) < (1 - _EXACT) * target:
        raise UnreachableError(
            f"{who}: components.size: its largest component has {measured(_kept(large)):.4f} of the source's {unit}, "
            f"without the outputs of other classes; {target} cannot be reached"
        )
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        found = union(evidence, outputs, scaled(thresholds, middle))
        if measured(_kept(found)) > target:
            low, large = middle, found
        else:
            high, small = middle, found
    between = [c for c in large.argsort(descending=True, stable=True).tolist() if large[c] > 0 and small[c] <= 0]
    fewest, most = 0, len(between)
    while fewest < most:
        middle = (fewest + most + 1) // 2
        if measured(_kept(small) | set(between[:middle])) <= target:
            fewest = middle
        else:
            most = middle - 1
    sides = [_kept(small) | set(between[:count]) for count in (fewest, min(fewest + 1, len(between)))]
    best = min(sides, key=lambda side: abs(measured(side) - target))
    return Selection(best, high, measured(best))


def _never_empty(margins: torch.Tensor, coupling: Coupling) -> torch.Tensor:
    """The strongest channel of every stream is kept, by a hair, whatever the thresholds."""
    for stream in coupling.streams:
        channels = torch.tensor(stream)
        if not (margins[channels] > 0).any():
            margins[channels[margins[channels].argmax()]] = 1e-9
    return margins


def _kept(margins: torch.Tensor) -> frozenset[int]:
    return frozenset((margins > 0).nonzero().flatten().tolist())


def _logits(coupling: Coupling) -> torch.Tensor:
    found = torch.zeros(coupling.count, dtype=torch.bool)
    found[list(coupling.classifier.outputs)] = True
    return found


def _of(cost: Cost, unit: Literal["params", "macs"]) -> float:
    return cost.params if unit == "params" else cost.macs
