"""Float64 on every device: sums whose last digits count are taken where there is that."""

import torch

CPU = torch.device("cpu")


def home(device: torch.device) -> torch.device:
    """Where sums of what is on `device` are kept: there, or on the CPU, where it has no float64 (Apple's mps)."""
    return CPU if device.type == "mps" else device


def exact(x: torch.Tensor) -> torch.Tensor:
    """x in float64, where it is or, see `home`, on the CPU."""
    return x.to(home(x.device)).double()
