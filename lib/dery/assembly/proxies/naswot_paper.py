"""NASWOT as the code of DeRy has it: signs of what leaves modules, in train mode."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ..train_mode import mean_in_train_mode

if TYPE_CHECKING:
    from ..built import Built

BETTER = "high"

ACTIVATIONS = (nn.ReLU, nn.LeakyReLU, nn.GELU, nn.PReLU, nn.Hardswish, nn.ELU, nn.SELU, nn.Mish)
LOOKED_AT = (*ACTIVATIONS, nn.Linear, nn.Dropout, nn.MultiheadAttention)
LAST_OF_ATTENTION = "proj_drop"  # the dropout with which attention in timm, windowed or not, ends


def predict(made: "Built") -> float | None:
    """The authors' NASWOT of the finished network on the probe images, without labels."""
    return naswot_paper(made.network, made.measures.probes.images(made.recipe.input))


def naswot_paper(network: nn.Module, batches: Iterable[tuple[torch.Tensor, torch.Tensor]]) -> float | None:
    """Mean over `batches` of b images of log|det K_H| / b, in train mode (see `mean_in_train_mode`).

    K_H [b, b] counts the numbers that leave a module with the same sign (> 0 or not) for two images, over eight kinds
    of activations, linear layers, attention, windowed attention and dropout, where they are modules: functions are not
    seen. None where there is none of them, or where two images are told apart by nothing.

    Differs from the paper's code: that hooks every module once more for each batch, which adds the same to every
    network; attention is looked at where it ends, at its dropout, which therefore counts twice; what is fused inside it
    has no dropout of its own.
    """
    return mean_in_train_mode(network, batches, _of_batch)


@torch.no_grad()
def _of_batch(network: nn.Module, x: torch.Tensor, y: torch.Tensor) -> float | None:
    kernel = torch.zeros(len(x), len(x), dtype=torch.float64)

    def count(times: int, out: Any) -> None:
        out = out[0] if isinstance(out, tuple) else out
        if len(out) % len(x) == 0:  # several rows an image: windows
            bits = (out > 0).reshape(len(x), -1).float()
            kernel.add_((bits @ bits.T + (1 - bits) @ (1 - bits).T).cpu(), alpha=times)

    handles = []
    for name, module in network.named_modules():
        if isinstance(module, LOOKED_AT):
            times = 2 if name.rpartition(".")[2] == LAST_OF_ATTENTION else 1
            handles.append(module.register_forward_hook(lambda _, given, out, times=times: count(times, out)))
    try:
        network(x)
    finally:
        for handle in handles:
            handle.remove()
    return float(torch.linalg.slogdet(kernel)[1]) / len(x) if handles else None
