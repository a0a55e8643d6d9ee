"""What a network returns, and the logits in it."""

from collections.abc import Mapping
from typing import Any

import torch


def logits(output: Any) -> torch.Tensor:
    """The logits in what a network returns: the first tensor, where it returns auxiliary outputs with them.

    Raises TypeError where there is none.
    """
    if isinstance(output, torch.Tensor):
        return output
    if isinstance(output, Mapping):
        output = list(output.values())
    if isinstance(output, list | tuple) and output:
        return logits(output[0])
    raise TypeError(f"a network returned a {type(output).__name__}; expected logits, one tensor")
