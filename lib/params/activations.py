"""`activations`: what is recorded at the boundaries of a chain."""

from lib.params.base import Count, Section


class Activations(Section):
    """Images a forward pass; activations are pooled over space or tokens."""

    batch_size: Count
