"""One layer in closed form: the weight W and bias b with the least ||X W + b - Y||^2 + lambda ||W - W0||^2 that bring
what it is given, X, to what it should make, Y.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import nn

from .batchnorm import Moments
from .patches import patches
from .ridge import NormalEquations

ROWS = 2**16  # most rows of a regression, images times positions
_CHUNK = 2**24  # most elements of the rows that are unfolded at once, were none left out
_KEPT = 2**26  # most elements of rows that are unfolded once for all regressions of a layer


@dataclass(frozen=True)
class Rows:
    """Which positions of images become rows of a regression: of each image at most `each`, drawn anew for every batch;
    seen: how many images came before the batch.
    """

    each: int
    seen: int = 0

    def of(self, y: torch.Tensor, layer: nn.Linear | nn.Conv2d) -> torch.Tensor:
        """The rows [rows, O] of what `layer` has made of a batch."""
        return _outputs(layer, y, self.drawn(y[0].numel() // len(layer.weight)))

    def drawn(self, positions: int) -> torch.Tensor | None:
        """Which of so many, ascending; None for all."""
        if positions <= self.each:
            return None
        generator = torch.Generator().manual_seed(self.seen)
        return torch.randperm(positions, generator=generator)[: self.each].sort().values


@torch.no_grad()
def refit_from(
    layer: nn.Linear | nn.Conv2d, batches: Iterable[tuple[torch.Tensor, torch.Tensor]], ridge: float, each: int
) -> Moments:
    """Changes an ungrouped `layer` so that from the first tensor of each pair, what it is given, it makes the second,
    the `Rows` of what is wanted; pairs come once. Returns the moments of what it makes of these rows then.

    lambda = `ridge` times the mean diagonal of the centred X'X; a layer without a bias gets none. each: most positions
    of an image that become rows of the regression.
    """
    given = layer.weight.flatten(1).T
    equations, seen = NormalEquations(*given.shape), 0
    waiting, count = list[tuple[torch.Tensor, torch.Tensor]](), 0
    for x, y in batches:
        drawn = Rows(each, seen).drawn(_positions(layer, x))
        seen, lines = seen + len(x), len(y) // len(x)
        size = -(-max(_CHUNK // given.shape[0], len(given)) // lines)  # images
        for inputs, outputs in zip(x.split(size), y.split(size * lines), strict=True):
            waiting.append((_inputs(layer, inputs, drawn), outputs))
            count += len(outputs)
            if count >= len(given):  # as many rows as columns: see `NormalEquations.add`
                equations.add(*_joined(waiting))
                waiting, count = [], 0
    if waiting:
        equations.add(*_joined(waiting))
    fit = equations.solve(ridge, towards=given, intercept=layer.bias is not None)
    layer.weight.copy_(fit.weight.T.reshape_as(layer.weight))
    if layer.bias is not None:
        layer.bias.copy_(fit.bias)
    return equations.made(fit)


def _joined(pairs: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> tuple[torch.Tensor, torch.Tensor]:
    if len(pairs) == 1:
        return pairs[0]
    x, y = zip(*pairs, strict=True)
    return torch.cat(x), torch.cat(y)


def _positions(layer: nn.Linear | nn.Conv2d, x: torch.Tensor) -> int:
    """How many positions of an image `layer` gives something for, when it is given x."""
    if isinstance(layer, nn.Linear):
        return x[0].numel() // x.shape[-1]
    return layer.forward(x[:1])[0, 0].numel()  # it may be watched


def is_linear(layer: Any, x: torch.Tensor, y: torch.Tensor) -> bool:
    """Whether y is the product of what `layer` sees of x with its weights, as they are: some kinds normalise them."""
    try:
        rows, outputs = _inputs(layer, x), _outputs(layer, y)
    except RuntimeError:  # where weights of another shape cannot be normalised
        return False
    made = rows @ layer.weight.flatten(1).T + (0 if layer.bias is None else layer.bias)
    return torch.allclose(made, outputs, rtol=1e-3, atol=1e-3 * float(outputs.abs().max()))


def _inputs(layer: nn.Linear | nn.Conv2d, x: torch.Tensor, drawn: torch.Tensor | None = None) -> torch.Tensor:
    """What each row of outputs is a linear map of, [n, p]; at the `drawn` positions only."""
    return _outputs(layer, x, drawn) if isinstance(layer, nn.Linear) else patches(x, layer, drawn)


def _outputs(layer: nn.Linear | nn.Conv2d, y: torch.Tensor, drawn: torch.Tensor | None = None) -> torch.Tensor:
    """The rows [n, q] of what `layer` gives, or a linear one is given."""
    if isinstance(layer, nn.Linear):
        lines = y.flatten(1, -2) if y.ndim > 2 else y[:, None]
        return (lines if drawn is None else lines[:, drawn.to(y.device)]).flatten(0, 1)
    maps = y.flatten(2)
    return (maps if drawn is None else maps[:, :, drawn.to(y.device)]).transpose(1, 2).flatten(0, 1)


@dataclass(frozen=True)
class Goal:
    """What a layer should make: target [n, O, ...].

    Where a ReLU follows, what lies below its floor [n, O, ...] is as good as the floor; sign [O] is -1 where a
    BatchNorm between them turns the values round: there, what lies above.
    """

    target: Float[torch.Tensor, "n O *at"]
    floor: Float[torch.Tensor, "n O *at"] | None = None
    sign: Float[torch.Tensor, " O"] | None = None

    def rows(self, of: slice, images: slice, drawn: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Target and floor of some outputs and images at the `drawn` positions, as rows [rows, O]."""
        floor = None if self.floor is None else _rows(self.floor[images, of], drawn)
        return _rows(self.target[images, of], drawn), floor


def refit(
    x: Float[torch.Tensor, "n C ..."],
    goal: Goal,
    module: Any,
    ridge: float,
    free: bool,
    steps: int,
    most: int = ROWS,
) -> tuple[Float[torch.Tensor, "O ..."], Float[torch.Tensor, " O"]]:
    """The weight of `module`, a convolution or linear layer, and the bias [O] that bring it from x to the goal; both
    have their channels along dimension 1 (see `channels_first`).

    Minimises ||X W + b - Y||^2 + lambda ||W - W0||^2 over the rows of X, the patches of x: W0 the present weight,
    lambda = `ridge` times the mean diagonal of X'X, b zero unless `free`. Where a ReLU follows it is then
    ||ReLU(X W + b) - ReLU(Y)||^2, but for outputs that lie below zero in Y alone: there, what exceeds it counts. That
    is convex; each of the `steps` solves the ridge regression whose targets are moved to where they cost nothing, which
    lowers it.
    """
    groups = getattr(module, "groups", 1)
    start = module.weight.detach().flatten(1)
    wide, deep = len(start) // groups, x.shape[1] // groups
    fits = []
    for g in range(groups):
        inputs, outputs = slice(g * deep, (g + 1) * deep), slice(g * wide, (g + 1) * wide)
        fits.append(_fit(x[:, inputs], goal, outputs, module, start[outputs].T, ridge, free, steps, most))
    return torch.cat([w.T for w, _ in fits]).view_as(module.weight), torch.cat([b for _, b in fits])


def _fit(
    x: torch.Tensor,
    goal: Goal,
    of: slice,
    module: Any,
    start: torch.Tensor,
    ridge: float,
    free: bool,
    steps: int,
    most: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight [features, O] and bias [O] of one group."""
    drawn = _drawn(goal.target[0, 0].numel(), len(x), most)
    step = max(1, _CHUNK // (len(start) * goal.target[0, 0].numel()))
    batches = [slice(first, first + step) for first in range(0, len(x), step)]
    few = len(x) * len(drawn) * len(start) <= _KEPT
    kept = {images.start: _given(x[images], module, drawn) for images in batches} if few else {}
    sign = None if goal.sign is None else goal.sign[of]
    equations = NormalEquations(*start.shape)
    weight, bias = start, torch.zeros(start.shape[1], device=start.device)
    for again in range(1 + (steps if goal.floor is not None else 0)):
        if again:
            equations.forget_targets()
        for images in batches:
            rows = kept[images.start] if few else _given(x[images], module, drawn)
            target, floor = goal.rows(of, images, drawn)
            if again and floor is not None and sign is not None:
                made, target, floor = (rows @ weight + bias) * sign, target * sign, floor * sign
                target = torch.where(target > floor, target, torch.minimum(made, floor)) * sign
            equations.add(rows, target)
        found = equations.solve(ridge, towards=start, intercept=free)
        weight, bias = found.weight.to(start.device), found.bias.to(start.device)
    return weight, bias


def _drawn(positions: int, images: int, most: int) -> torch.Tensor:
    """Which positions of each of so many images become rows: all, or as many at random, ascending, as there is room."""
    count = max(1, min(positions, most // images))
    return torch.randperm(positions, generator=torch.Generator().manual_seed(0))[:count].sort().values


def channels_first(x: torch.Tensor, layer: Any) -> torch.Tensor:
    """What a layer is given, or makes, with its channels along dimension 1: those of tokens lie along the last one."""
    return x.movedim(-1, 1) if isinstance(layer, nn.Linear) and x.ndim > 2 else x


def _given(x: torch.Tensor, module: Any, drawn: torch.Tensor) -> torch.Tensor:
    if isinstance(module, nn.Linear):
        return x if x.ndim == 2 else _rows(x, drawn)
    return patches(x, module, drawn)


def _rows(y: torch.Tensor, drawn: torch.Tensor) -> torch.Tensor:
    """[n, C, ...] -> [n * drawn, C]"""
    y = y.reshape(*y.shape[:2], -1)
    y = y if len(drawn) == y.shape[2] else y[:, :, drawn.to(y.device)]
    return y.transpose(1, 2).flatten(0, 1)
