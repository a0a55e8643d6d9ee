"""What stage `contributions` leaves of a network that is taken apart."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from ...base import artifacts


@dataclass(frozen=True, eq=False)
class Found:
    """masks: layer name -> the channels that each class needs, bool [classes, channels]; selected: class name -> int64,
    the train images that its contributions come from, by their numbers in the data set.
    """

    masks: Mapping[str, torch.Tensor]
    selected: Mapping[str, torch.Tensor]

    @classmethod
    def load(cls, folder: Path) -> "Found":
        """What the stage wrote to `folder`. Raises BrickyardError naming a file that is missing or damaged."""
        return cls(*(artifacts.read_tensors(folder / f"{name}.safetensors") for name in ("masks", "selected")))
