"""Filter pruning by the geometric median (He et al. 2019): a control, with Torch-Pruning's importance."""

from types import SimpleNamespace
from typing import Any, cast

import torch
import torch_pruning
from torch import nn

from lib.channels.channels import Coupling


def importance(model: nn.Module, coupling: Coupling) -> torch.Tensor:
    """Sum of the distances of a channel's filter to the others of its layer, float64 [channels]; over all layers that
    make a channel, for every class the same. Small where a filter can be replaced by others.
    """
    found = torch.zeros(coupling.count, dtype=torch.float64)
    prune = {
        "conv": torch_pruning.prune_conv_out_channels,
        "linear": torch_pruning.prune_linear_out_channels,
    }
    for layer in coupling.layers:
        every = list(range(len(layer.outputs)))
        dependency = SimpleNamespace(layer=model.get_submodule(layer.name), pruning_fn=prune[layer.kind])
        item = _Item((dependency, every), every)
        distances: Any = torch_pruning.importance.FPGMImportance(normalizer=cast(Any, None))([item])
        found.index_add_(0, torch.tensor(layer.outputs), distances.detach().double().cpu())
    return found


class _Item(tuple[SimpleNamespace, list[int]]):
    """A layer and its channels, as Torch-Pruning's groups list them."""

    root_idxs: list[int]

    def __new__(cls, pair: tuple[SimpleNamespace, list[int]], root: list[int]) -> "_Item":
        item = super().__new__(cls, pair)
        item.root_idxs = root
        return item
