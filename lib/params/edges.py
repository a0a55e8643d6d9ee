"""`edges`: how the stitches between the networks of the zoo are fitted."""

from typing import Annotated, Literal

from pydantic import Field

from .section import Batch, Ridge, Section

Init = Literal["least_squares", "random", "identity", "paper"]


class Edges(Section):
    """What a stitch is before anything behind it is treated.

    init: least_squares: to what the target's own front gives; else not fitted, as a control. All but the paper's are
        linear maps; that has a norm, a bias-free (strided) convolution with random weights and a LeakyReLU, and is made
        to be trained.
    down: how it comes to half the grid: pool, patch (2 x 2 positions side by side), or what fits better.
    ridge: lambda, relative to the mean diagonal of X'X.
    images: of the probe images those, at most, to which stitches, and layers behind them, are fitted; null = all.
    kl_images: of these those, at most, on which the replace-one KL is measured; null = all.
    rows: most rows of a regression, images times positions; of more, as many are drawn.
    window: a network may also be entered by so many sets earlier or later than where the one before it was left.
    """

    init: Init = "least_squares"
    down: Literal["auto", "pool", "patch"] = "auto"
    ridge: Ridge = 1e-4
    rows: Annotated[int, Field(ge=64, le=100_000_000)] = 65_536
    images: Annotated[int, Field(ge=4, le=10_000_000)] | None = None
    kl_images: Annotated[int, Field(ge=2, le=10_000_000)] | None = None
    window: Annotated[int, Field(ge=0, le=100)] = 0
    batch_size: Batch = 64
