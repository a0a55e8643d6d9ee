"""Layers refitted in closed form and without labels, so that a copied part of a network copes with other inputs."""

from collections import Counter
from collections.abc import Iterable, Sequence

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ...chain.chain import Chain
from ...fit import batchnorm
from ...fit.layer import ROWS, is_linear, refit_from
from ...trace.duplicate import duplicate
from ...trace.watching import around, order

Pairs = Sequence[tuple[torch.Tensor, torch.Tensor]]


@torch.no_grad()
def refit_run(
    chain: Chain,
    start: int,
    stop: int,
    pairs: Iterable[tuple[torch.Tensor, torch.Tensor]],
    pull: float,
    rows: int = ROWS,
) -> nn.Module:
    """A copy of nodes start + 1..stop of a network, refitted as `refit` does: from the first tensor of each pair, which
    enters them behind a stitch, to what they compute from the second, which enters them in the network itself.

    Node by node, what has reached a node is kept, so that time grows with the number of layers and no node is run
    behind those before it again. Layers of different nodes that have weights in common stay as they are.
    """
    block, pairs = duplicate(chain[start:stop]), list(pairs)
    nodes = [chain[i : i + 1] for i in range(start, stop)]
    fixed = _tied(nodes)
    for node in nodes:
        own = duplicate(node)
        refit(own, node, pairs, pull, rows, fixed)
        strange = block.load_state_dict(own.state_dict(), strict=False).unexpected_keys  # the rest is other nodes'
        assert not strange, f"{chain.name}: {strange[0]} of a node is none of its block's"
        if node is not nodes[-1]:
            pairs = [(own(x.clone()), node(y.clone())) for x, y in pairs]
    return block.eval()


@torch.no_grad()
def refit(
    part: nn.Module,
    source: nn.Module,
    pairs: Pairs,
    pull: float,
    rows: int = ROWS,
    fixed: frozenset[str] = frozenset(),
) -> None:
    """Changes `part`, a copy of `source` in eval mode, so that from the first tensor of each pair it computes what
    `source` computes from the second: batches of the same images as they enter either.

    In forward order, each linear layer and convolution becomes W, b with the least ||X W + b - Y||^2 + lambda ||W -
    W0||^2: X [n, p] what reaches it in `part` (a convolution's patches), by then already changed; Y [n, q] what it
    gives in `source`; W0 its weights; lambda = `pull` times the mean diagonal of the centred X'X. A layer without b
    gets none; of more images and positions, `rows` become rows of X, drawn from all images. Running statistics of
    BatchNorm become those of what reaches it. Grouped convolutions, those that normalise their weights, layers that run
    more than once in a pass or have weights in common, and those whose names are `fixed`, stay as they are. Not in the
    paper.
    """
    if not pairs:
        return
    fixed |= _tied([part])
    source = duplicate(source)  # it is watched while it runs, and may run in other threads, too
    each = max(1, rows // sum(len(x) for x, _ in pairs))
    for name in order(part, pairs[0][0], _is_taken):
        if name in fixed:
            continue
        layer, own = part.get_submodule(name), source.get_submodule(name)
        if isinstance(layer, _BatchNorm):
            batchnorm.put(layer, batchnorm.Moments.of(around(part, layer, x)[0] for x, _ in pairs))
        elif isinstance(layer, nn.Linear | nn.Conv2d) and is_linear(own, *around(source, own, pairs[0][1][:1])):
            refit_from(layer, ((around(part, layer, x)[0], around(source, own, y)[1]) for x, y in pairs), pull, each)


def _tied(parts: Sequence[nn.Module]) -> frozenset[str]:
    """Names of the layers that have weights or statistics in common with another one, or with another part."""
    taken = [(name, layer) for part in parts for name, layer in part.named_modules() if _is_taken(layer)]
    held = [(name, {id(tensor) for tensor in (*layer.parameters(), *layer.buffers())}) for name, layer in taken]
    counted = Counter(tensor for _, tensors in held for tensor in tensors)
    return frozenset(name for name, tensors in held if any(counted[tensor] > 1 for tensor in tensors))


def _is_taken(layer: nn.Module) -> bool:
    if isinstance(layer, _BatchNorm):
        return layer.running_mean is not None
    linear = isinstance(layer, nn.Linear) or (isinstance(layer, nn.Conv2d) and layer.groups == 1)
    return linear and "weight" in layer._parameters  # else it is made anew in each pass
