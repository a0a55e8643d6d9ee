"""`activations`: what is recorded at the boundaries of a chain."""

from typing import Literal

from pydantic import Field

from .section import Batch, Count, Section


class Activations(Section):
    """Images a forward pass; activations are averaged over the cells of a grid x grid; how a value is stored."""

    batch_size: Batch
    grid: Count = Field(le=32)
    dtype: Literal["float32", "bfloat16"]
