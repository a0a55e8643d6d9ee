"""Layers refitted in closed form and without labels, so that a copied part of a network copes with other inputs."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ...base.abreast import abreast
from ...base.waiting import Waiting
from ...chain.chain import Chain
from ...fit import batchnorm
from ...fit.batchnorm import Moments
from ...fit.layer import ROWS, Rows, is_linear, refit_from
from ...trace.duplicate import duplicate
from ...trace.watching import around, entering, leaving, order, readers

Pairs = Iterable[tuple[torch.Tensor, torch.Tensor]]


@torch.no_grad()
def refit_run(
    chain: Chain, start: int, stop: int, pairs: Pairs, count: tuple[int, int], pull: float, rows: int = ROWS
) -> nn.Module:
    """A copy of nodes start + 1..stop of a network, refitted as `refit` does: from the first tensor of each pair, which
    enters them behind a stitch, to what they compute from the second, which enters them in the network itself.

    count: of the pairs, and of the images in them.

    Node by node, what has reached a node is kept, so that time grows with the number of layers and no node is run
    behind those before it again. Layers of different nodes that have weights in common stay as they are.
    """
    block = duplicate(chain[start:stop])
    nodes = [chain[i : i + 1] for i in range(start, stop)]
    fixed, given, wanted = _tied(nodes), Waiting(count[0]), Waiting(count[0])
    for x, y in pairs:
        given.add({"x": x})
        wanted.add({"y": y})
    for node in nodes:
        own, last = duplicate(node), node is nodes[-1]
        wanted = _refit(own, node, given, wanted, pull, max(1, rows // count[1]), fixed, last)
        strange = block.load_state_dict(own.state_dict(), strict=False).unexpected_keys  # the rest is other nodes'
        assert not strange, f"{chain.name}: {strange[0]} of a node is none of its block's"
        if not last:
            behind = Waiting(len(given))
            for x in abreast(lambda batch, own=own: own(batch["x"].clone()), given.drained(), given.width):
                behind.add({"x": x})
            given = behind
    return block.eval()


@torch.no_grad()
def refit(part: nn.Module, source: nn.Module, pairs: Pairs, pull: float, rows: int = ROWS) -> None:
    """Changes `part`, a copy of `source` in eval mode, so that from the first tensor of each pair it computes what
    `source` computes from the second: batches of the same images as they enter either.

    In forward order, each linear layer and convolution becomes W, b with the least ||X W + b - Y||^2 + lambda ||W -
    W0||^2: X [n, p] what reaches it in `part` (a convolution's patches), by then already changed; Y [n, q] what it
    gives in `source`; W0 its weights; lambda = `pull` times the mean diagonal of the centred X'X. A layer without b
    gets none; of more images and positions, `rows` become rows of X, drawn from all images. Running statistics of
    BatchNorm become those of what reaches it, of what comes straight from such a layer those of its rows. Grouped
    convolutions, those that normalise their weights, layers that run more than once in a pass or have weights in
    common stay as they are. Not in the paper.
    """
    given, wanted, images = Waiting(), Waiting(), 0
    for x, y in pairs:
        images += len(x)
        given.add({"x": x})
        wanted.add({"y": y})
    if images:
        _refit(part, source, given, wanted, pull, max(1, rows // images), frozenset(), last=True)


def _refit(
    part: nn.Module,
    source: nn.Module,
    given: Waiting,
    wanted: Waiting,
    pull: float,
    each: int,
    fixed: frozenset[str],
    last: bool,
) -> Waiting:
    """`refit` from batches that wait; returns what `source` makes of those that are `wanted`, which are used up, unless
    it is the last. each: most positions of an image that become rows; fixed: names of layers that stay.
    """
    x, y = next(iter(given))["x"][:1], next(iter(wanted))["y"][:1]
    fixed |= _tied([part])
    source = duplicate(source)  # it is watched while it runs, and may run in other threads, too
    names = [name for name in order(part, x, _is_taken) if name not in fixed]
    fitted = {name: layer for name in names if (layer := _fitted(source, name, y)) is not None}
    behind, goals, count = Waiting(len(wanted)), Waiting(len(wanted)), given.width
    with leaving(source, fitted) as run:
        each_of = abreast(lambda own: run(own[0], partial(_kept, fitted, own[1])), _drawn(wanted, each), count)
        for made, own in each_of:
            goals.add(own)
            if not last:
                behind.add({"y": made})
    before, known = readers(part, x, _is_taken), dict[str, Moments]()
    for name in names:
        layer = part.get_submodule(name)
        straight = known.get(before.get(name, ""))
        if straight is not None and isinstance(layer, _BatchNorm):
            batchnorm.put(layer, straight)
        elif name in fitted or isinstance(layer, _BatchNorm):
            with entering(part, layer) as reach:
                reached = abreast(lambda own: reach(own["x"]), given, count)
                if isinstance(layer, _BatchNorm):
                    batchnorm.put(layer, Moments.of(reached))
                else:
                    assert isinstance(layer, nn.Linear | nn.Conv2d)
                    wanted_rows = (own[name] for own in goals)
                    known[name] = refit_from(layer, zip(reached, wanted_rows, strict=True), pull, each)
    return behind


def _drawn(wanted: Waiting, each: int) -> Iterator[tuple[torch.Tensor, Rows]]:
    """Every batch, which is then used up, with the rows that are drawn of it."""
    seen = 0
    for batch in wanted.drained():
        yield batch["y"], Rows(each, seen)
        seen += len(batch["y"])


def _kept(layers: Mapping[str, nn.Linear | nn.Conv2d], rows: Rows, name: str, output: torch.Tensor) -> torch.Tensor:
    """The rows of what a layer gives, which may be changed in place behind it."""
    return rows.of(output, layers[name]).clone()


def _fitted(source: nn.Module, name: str, y: torch.Tensor) -> nn.Linear | nn.Conv2d | None:
    """The layer of that name, where it is one that can be refitted; y: an image as it enters `source`."""
    layer = source.get_submodule(name)
    if isinstance(layer, nn.Linear | nn.Conv2d) and is_linear(layer, *around(source, layer, y)):
        return layer
    return None


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
