"""Fitting stitches, the layers between two blocks, in closed form."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf
from typing import TypeVar

import torch
from jaxtyping import Float, Int64
from torch.nn import functional as F

from ...chain.layout import Layout
from ...fit import batchnorm
from ...fit.ridge import Fit, NormalEquations
from ...network.modules import PaperStitch, Stitch, enlarged, shrunk
from ...params.edges import Init
from ...trace.duplicate import duplicate

S = TypeVar("S", bound=Stitch)
Step = tuple[int, int]  # a boundary of the network before a stitch, and by how many sets farther on that behind it is
Joint = tuple[int, str, str, int]  # the boundary, the network before it, the one behind, the sets
HELD_OUT = 4  # one image of so many tells which form of a stitch fits better


def takes_patches(source: Layout, target: Layout) -> bool:
    """Whether the grid shrinks by an even factor, so that a stitch can look at 2x2 patches."""
    return source.height % (2 * target.height) == 0 and source.width % (2 * target.width) == 0


@torch.no_grad()
def random(source: Layout, target: Layout, patch: int, seed: int) -> Stitch:
    """A linear stitch that is not fitted: weights and biases uniform within 1/sqrt(inputs), torch's default. The
    paper's is random, too, but another one, see `paper`.
    """
    return _drawn(Stitch(source, target, patch), seed)


@torch.no_grad()
def paper(source: Layout, target: Layout, patch: int, seed: int) -> PaperStitch:
    """The paper's stitch (see `PaperStitch`) with torch's default weights: uniform within 1/sqrt(inputs), norms
    neutral; in eval mode.
    """
    return _drawn(PaperStitch(source, target, patch), seed).eval()


@torch.no_grad()
def identity(source: Layout, target: Layout, patch: int) -> Stitch:
    """Channels as they are: those that the target has too many are zero, those that it lacks are dropped.

    The grid is matched as in every stitch, a patch is averaged; prefix tokens are the source's pooled channels.
    """
    stitch = Stitch(source, target, patch)
    same = torch.eye(target.channels, source.channels)
    stitch.channels.weight.copy_((same / patch**2)[:, :, None, None].expand_as(stitch.channels.weight))
    if stitch.prefix is not None:
        stitch.prefix.weight.copy_(same.repeat(target.prefix, 1))
    for _, bias in stitch.maps():
        bias.zero_()
    return stitch


class StitchEquations:
    """The least-squares problem of one stitch: source activations against the target's own, batch by batch."""

    def __init__(self, source: Layout, target: Layout, patch: int = 1, positions: int | None = None):
        """positions: most of each image that become rows, drawn anew for every batch; all by default."""
        self.source, self.target, self.patch, self.positions = source, target, patch, positions
        self._seen, self._device = 0, torch.device("cpu")
        kept, held_out = (NormalEquations(source.channels * patch**2, target.channels) for _ in range(2))
        self._parts = (kept, held_out)
        self._prefix = NormalEquations(source.channels, target.prefix * target.channels) if target.prefix else None

    def add(self, x: torch.Tensor, y: torch.Tensor) -> None:
        """A batch as it leaves the source and as it enters the target, for the same images."""
        inputs = F.pixel_unshuffle(shrunk(self.source.to_map(x), self.target, self.patch), self.patch)
        inputs, outputs = enlarged(inputs, self.target), self.target.to_map(y)
        held_out = torch.arange(self._seen, self._seen + len(x)) % HELD_OUT == HELD_OUT - 1
        drawn, self._device = self._drawn(), x.device
        for part, images in zip(self._parts, (~held_out, held_out), strict=True):
            part.add(rows(inputs[images], drawn), rows(outputs[images], drawn))
        self._seen += len(x)
        if self._prefix is not None:
            self._prefix.add(self.source.pool(x), y[:, : self.target.prefix].flatten(1))

    def _drawn(self) -> torch.Tensor | None:
        """Which positions of the next batch become rows; None for all."""
        every = self.target.height * self.target.width
        if self.positions is None or every <= self.positions:
            return None
        generator = torch.Generator().manual_seed(self._seen)
        return torch.randperm(every, generator=generator)[: self.positions].sort().values

    def r2(self, ridge: float) -> float:
        """R^2 of the map over all positions and channels."""
        return self._map.solve(ridge).r2

    def held_out_r2(self, ridge: float) -> float:
        """R^2 of the map on every fourth image, fitted on the others; -inf with fewer than four images."""
        kept, held_out = self._parts
        return held_out.explained(kept.solve(ridge)) if held_out.count else -inf

    def fitted(self, ridge: float) -> Stitch:
        """The stitch with the least squared error. Differs from the paper: fitted instead of random."""
        return self._filled([equations.solve(ridge) for equations in self._equations])

    def matched(self, stitch: Stitch) -> Stitch:
        """`stitch` with its output channels scaled and moved so that they have the target's mean and variance; the
        paper's, which is no linear map, as it is.
        """
        if isinstance(stitch, PaperStitch):
            return stitch
        weights = (weight.flatten(1).T for weight, _ in stitch.maps())
        return self._filled([own.match(weight) for own, weight in zip(self._equations, weights, strict=True)])

    @property
    def _map(self) -> NormalEquations:
        return self._parts[0] + self._parts[1]

    @property
    def _equations(self) -> list[NormalEquations]:
        return [self._map] if self._prefix is None else [self._map, self._prefix]

    @torch.no_grad()
    def _filled(self, fits: Sequence[Fit]) -> Stitch:
        stitch = Stitch(self.source, self.target, self.patch)
        for (weight, bias), fit in zip(stitch.maps(), fits, strict=True):
            weight.copy_(fit.weight.T.reshape_as(weight))
            bias.copy_(fit.bias)
        return self.placed(stitch)

    def placed(self, stitch: S) -> S:
        """`stitch` on the device of the activations."""
        return stitch.to(self._device)


def _drawn(stitch: S, seed: int) -> S:
    """With random weights that depend on `seed` alone."""
    generator = torch.Generator().manual_seed(seed)
    for layer in (stitch.channels, stitch.prefix):
        if layer is not None:
            limit = layer.weight[0].numel() ** -0.5
            for values in layer.parameters():
                values.uniform_(-limit, limit, generator=generator)
    return stitch


def resized(x: Float[torch.Tensor, "b c h w"], target: Layout) -> Float[torch.Tensor, "b c H W"]:
    """A map [b, c, h, w] on the target's grid: pooled where that is smaller, interpolated where it is larger."""
    return enlarged(shrunk(x, target), target)


def rows(
    x: Float[torch.Tensor, "b c h w"], drawn: Int64[torch.Tensor, " p"] | None = None
) -> Float[torch.Tensor, "rows c"]:
    """[b, c, h, w] -> [b h w, c], or of some positions only, counted along the rows of the grid, [b p, c]."""
    x = x.flatten(2)
    return (x if drawn is None else x[:, :, drawn.to(x.device)]).transpose(1, 2).flatten(0, 1)


def better(forms: Sequence[StitchEquations], ridge: float) -> StitchEquations:
    """Of several forms of one stitch the one that fits images best which it was not fitted to."""
    return max(forms, key=lambda form: form.held_out_r2(ridge)) if len(forms) > 1 else forms[0]


def initial(equations: StitchEquations, init: Init, ridge: float, seed: int) -> Stitch:
    """The stitch of an `init`: of least squares that of the equations; the others look at their layouts alone."""
    if init == "least_squares":
        return equations.fitted(ridge)
    if init == "identity":
        return equations.placed(identity(equations.source, equations.target, equations.patch))
    draw = paper if init == "paper" else random
    return equations.placed(draw(equations.source, equations.target, equations.patch, seed))


def settled(stitch: Stitch, batches: Iterable[Float[torch.Tensor, "b ..."]]) -> Stitch:
    """`stitch`, where it has a BatchNorm a copy with the statistics of what reaches it in one pass of `batches`."""
    if not batchnorm.has_batchnorm(stitch):
        return stitch
    copy = duplicate(stitch)
    batchnorm.batchnorm(copy, batches)
    return copy


@dataclass(frozen=True)
class Edge:
    """A stitch between the own activations of two networks, behind the block of set `boundary` = 1..K-1 of `source`,
    in front of the next one of `target`, or of one that is by `shift` sets farther on.

    stitch: as it was fitted.
    matched: the same with the target's means and variances, for a target that has no BatchNorm behind it; of the
        paper's form as it was.
    r2: of its least-squares fit, over all positions and channels.
    kl: KL divergence of the target's answers with this one stitch in it from its own, in nats an image: its statistics
        are those of what then arrives.
    """

    boundary: int
    source: str
    target: str
    stitch: Stitch
    matched: Stitch
    r2: float
    kl: float
    shift: int = 0

    def to(self, device: torch.device) -> "Edge":
        """The edge itself, its stitches moved to `device`."""
        for stitch in (self.stitch, self.matched):
            stitch.to(device)
        return self

    @property
    def joint(self) -> Joint:
        """What it joins."""
        return self.boundary, self.source, self.target, self.shift
