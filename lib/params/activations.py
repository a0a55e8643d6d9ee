"""`activations`: what is recorded at the boundaries of a chain."""

from typing import Literal

from lib.params.base import Count, Section


class Activations(Section):
    """Images a forward pass; activations are averaged over the cells of a grid x grid; how a value is stored."""

    batch_size: Count
    grid: Count
    dtype: Literal["float32", "bfloat16"]
