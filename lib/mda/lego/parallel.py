"""Components as branches of one network: no zeros are stored or multiplied, and no architecture has to agree."""

from collections.abc import Sequence

import torch
from torch import nn

from ...zoo.adapter import Prepared
from ...zoo.networks import Input


class Parallel(nn.Module):
    """Networks that see the same image and whose logits stand side by side, in their order.

    inputs: what each of them expects; a branch that expects other images than `given` prepares them for itself.
    """

    def __init__(self, networks: Sequence[nn.Module], inputs: Sequence[Input], given: Input):
        super().__init__()
        self.branches = nn.ModuleList(
            network.eval() if own == given else Prepared(network, own, given)
            for network, own in zip(networks, inputs, strict=True)
        )

    @property
    def networks(self) -> list[nn.Module]:
        """Those that it was made of."""
        return [branch.network if isinstance(branch, Prepared) else branch for branch in self.branches]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images [b, 3, h, w] -> logits [b, sum of outputs]."""
        return torch.cat([branch(x) for branch in self.branches], 1)


def widest(inputs: Sequence[Input]) -> Input:
    """The input with the most pixels, from which all others can be prepared; the first of several."""
    return max(inputs, key=lambda one: one.size)
