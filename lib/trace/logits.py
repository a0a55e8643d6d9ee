"""What a network returns, and the logits in it."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import torch

from ..base.errors import BrickyardError


def logits(output: Any) -> torch.Tensor:
    """The logits in what a network returns: the first tensor, where it returns auxiliary outputs with them, in a tuple,
    a dict or a dataclass; what is None is left out.

    Raises BrickyardError where there is none.
    """
    if isinstance(output, torch.Tensor):
        return output
    if isinstance(output, Mapping):
        parts = list(output.values())
    elif is_dataclass(output) and not isinstance(output, type):
        parts = [getattr(output, field.name) for field in fields(output)]
    else:
        parts = list(output) if isinstance(output, list | tuple) else []
    if (given := [part for part in parts if part is not None]) and not isinstance(given[0], str):
        return logits(given[0])
    raise BrickyardError(f"a network returned a {type(output).__name__}; it should return logits, one tensor")
