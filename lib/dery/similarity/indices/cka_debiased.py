"""Debiased linear CKA (Nguyen et al. 2021), of all images or as a mean over minibatches."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch

from ....base.errors import BrickyardError
from ....params.similarity import Similarity
from .. import hsic
from ..layers import Network, Pair, Tile, minibatches, spread

TITLE = "Debiased linear CKA"
READS: tuple[str, ...] = ("batch_images",)


FEWEST = 4  # images for which the unbiased HSIC is defined


def tiles(networks: Sequence[Network], pairs: Sequence[Pair], memory: int, params: Similarity) -> Iterator[Tile]:
    """Unbiased HSIC of linear kernels (Song et al. 2012); its CKA lies in [-1, 1].

    batch_images: the mean over minibatches of about that many consecutive images, equally many up to one, instead of
    all images at once (Nguyen et al. 2021, Eq. 3-5). Raises BrickyardError for fewer than 4 images.
    """
    n = networks[0].images
    if n < FEWEST:
        raise BrickyardError(
            f"similarity.index = cka_debiased needs at least {FEWEST} images, not {n}; raise dataset.probe_images"
        )
    if params.batch_images is None or params.batch_images >= n:
        yield from hsic.unbiased(networks, pairs, memory)
        return
    networks = [replace(net, spreads=tuple(spread(layer) for layer in net.layers)) for net in networks]
    parts = list(minibatches(n, params.batch_images))
    sums: dict[Pair, torch.Tensor] = {}
    for count, part in enumerate(parts, start=1):
        for pair, tile in hsic.unbiased([net.rows(part) for net in networks], pairs, memory):
            sums[pair] = sums.get(pair, 0) + tile / len(parts)
            if count == len(parts):
                yield pair, sums.pop(pair)
