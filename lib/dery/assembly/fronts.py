"""What crosses the inner cuts of networks on the images of the fit, computed once and kept."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from itertools import pairwise
from math import prod
from pathlib import Path

import torch
from torch import nn

from ...base import memo
from ...base.abreast import abreast, width
from ...base.memo import Memo
from ...zoo.card import Card
from .material import Bricks

Crossing = tuple[torch.Tensor, ...]  # a batch as it crosses each of the inner cuts, in order


@dataclass(frozen=True)
class Fronts:
    """kept: where batches wait, so that stages and passes that need them again need not run a network again."""

    bricks: Bricks
    kept: Memo

    def of(self, m: int, images: int | None = None) -> Iterator[tuple[Crossing, torch.Tensor]]:
        """For every batch of the images, what crosses the inner cuts of network m, and its own logits.

        images: the first so many alone.
        """
        for crossing, logits in self._of(m):
            left = len(logits) if images is None else images
            yield tuple(x[:left] for x in crossing), logits[:left]
            if images is not None and (images := images - len(logits)) <= 0:
                return

    def entering(self, m: int, boundary: int) -> Iterator[torch.Tensor]:
        """For every batch of the images, what enters node boundary + 1 of network m, or its head."""
        loader, chain, cuts = self.bricks.fit[m], self.bricks.chains[m], self.bricks.cuts[m]
        before = [k for k in range(1, self.bricks.sets) if cuts[k] <= boundary]
        if not before:
            found, start = (x for x, _ in loader), 0
        else:
            found, start = (crossing[before[-1] - 1] for crossing, _ in self._of(m)), cuts[before[-1]]
        if start == boundary:
            yield from found
            return
        rest = chain[start:boundary]
        yield from abreast(rest, found, self._width(m))

    def through(self, m: int, known: int, parts: Sequence[nn.Module]) -> Iterator[torch.Tensor]:
        """For every batch of the images of network m, what they become by running `parts` one after another; known: how
        many nodes of it the first of them is, from the beginning, so that it need not run; 0: none.
        """

        def run(x: torch.Tensor) -> torch.Tensor:
            for part in parts[1 if known else 0 :]:
                x = part(x)
            return x

        yield from abreast(run, self.entering(m, known), self._width(m))

    def _of(self, m: int) -> Iterator[tuple[Crossing, torch.Tensor]]:
        loader, whole = self.bricks.fit[m], fingerprint(self.bricks, m)
        chain, cuts = self.bricks.chains[m], self.bricks.cuts[m]
        blocks = list[nn.Module]()
        keys = [memo.key(Path(__file__), whole, i, loader.batch_size) for i in range(len(loader))]

        def known() -> Iterator[tuple[str, dict[str, torch.Tensor] | torch.Tensor]]:
            batches = enumerate(loader)  # decodes nothing before it is asked
            for i, key in enumerate(keys):
                if (found := self.kept.get(key)) is None and not blocks:
                    blocks.extend([chain[start:stop] for start, stop in pairwise(cuts)])
                yield key, next(x for at, (x, _) in batches if at == i) if found is None else found

        def made(one: tuple[str, dict[str, torch.Tensor] | torch.Tensor]) -> dict[str, torch.Tensor]:
            key, found = one
            if isinstance(found, torch.Tensor):
                found = _run(blocks, chain.head, found)
                self.kept.put(key, found)
            return {name: tensor.to(self.bricks.device) for name, tensor in found.items()}

        for own in abreast(made, known(), self._width(m)):
            yield tuple(own[str(k)] for k in range(1, self.bricks.sets)), own["logits"]

    def _width(self, m: int) -> int:
        size = 4 * prod(self.bricks.cards[m].input.shape) * self.bricks.fit[m].batch_size
        return width(self.bricks.device, size)


def _run(blocks: Sequence[nn.Module], head: nn.Module, x: torch.Tensor) -> dict[str, torch.Tensor]:
    found = {}
    for k, block in enumerate(blocks, start=1):
        x = block(x)
        found[str(k)] = x.contiguous()
    found["logits"] = head(found.pop(str(len(blocks))))
    return found


def fingerprint(bricks: Bricks, m: int) -> str:
    """What network m is, where it is cut, and on which images it is run, as a hash."""
    loader = bricks.fit[m]
    parts = [_card(bricks.cards[m]), bricks.cuts[m], loader.images.checksum, sha256(loader.index.tobytes()).hexdigest()]
    return sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _card(card: Card) -> dict[str, object]:
    """What tells its computations apart."""
    own = (card.architecture, card.input)
    return {"made": [asdict(one) for one in own], "nodes": list(card.nodes), "checksum": card.checksum}
