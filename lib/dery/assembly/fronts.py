"""What crosses the inner cuts of networks on the images of the fit, computed once and kept."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from itertools import pairwise
from pathlib import Path

import torch
from torch import nn

from ...base import memo
from ...base.memo import Memo
from ...zoo.card import Card
from .material import Bricks

Crossing = tuple[torch.Tensor, ...]  # a batch as it crosses each of the inner cuts, in order


@dataclass(frozen=True)
class Fronts:
    """kept: where batches wait, so that stages and passes that need them again need not run a network again."""

    bricks: Bricks
    kept: Memo

    @torch.no_grad()
    def of(self, m: int) -> Iterator[tuple[Crossing, torch.Tensor]]:
        """For every batch of the images, what crosses the inner cuts of network m, and its own logits."""
        loader, whole = self.bricks.fit[m], fingerprint(self.bricks, m)
        chain, cuts, blocks = self.bricks.chains[m], self.bricks.cuts[m], list[nn.Module]()
        batches = enumerate(loader)  # decodes nothing before it is asked
        for i in range(len(loader)):
            key = memo.key(Path(__file__), whole, i, loader.batch_size)
            found = self.kept.get(key)
            if found is None:
                blocks = blocks or [chain[start:stop] for start, stop in pairwise(cuts)]
                found = _run(blocks, chain.head, next(x for at, (x, _) in batches if at == i))
                self.kept.put(key, found)
            own = {name: tensor.to(self.bricks.device) for name, tensor in found.items()}
            yield tuple(own[str(k)] for k in range(1, self.bricks.sets)), own["logits"]


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
