"""What candidates are made of: the zoo's networks, cut into K blocks each, and images to fit them together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from itertools import pairwise
from pathlib import Path
from typing import overload

import numpy as np
import torch

from ...base.memo import Memo
from ...chain.chain import Chain
from ...chain.layout import Layout
from ...images.data import DataSet, Loader, stratified_sample
from ...network import files
from ...network.blocks import Block, Pick
from ...network.modules import Form
from ...params.assembly import Assembly
from ...params.edges import Edges
from ...zoo.architecture import Trust
from ...zoo.card import Card, Input, read_cards
from ..partition.sets import Cuts
from .heads import Method
from .stitching import Edge, Joint, Step, takes_patches

OPEN = 8  # networks in memory at once
SAMPLE = 8  # images on which a change is checked


class Shelf(Sequence[Chain]):
    """The chains of networks on disk, each opened when it is asked for; the last few stay open."""

    def __init__(self, folders: Sequence[Path], trust: Trust = False, device: torch.device | str = "cpu") -> None:
        """trust: as for `load`; where it is entries of params.yaml, each network has to have one. device: where they
        are to be.
        """
        self._folders, self._trust, self._device = tuple(folders), trust, torch.device(device)
        self._opened = lru_cache(maxsize=OPEN)(self._open)

    def __len__(self) -> int:
        return len(self._folders)

    @overload
    def __getitem__(self, index: int) -> Chain: ...
    @overload
    def __getitem__(self, index: slice) -> "Shelf": ...
    def __getitem__(self, index: int | slice) -> "Chain | Shelf":
        return (
            Shelf(self._folders[index], self._trust, self._device)
            if isinstance(index, slice)
            else self._opened(range(len(self))[index])
        )

    def _open(self, index: int) -> Chain:
        folder = self._folders[index]
        trust = self._trust if isinstance(self._trust, bool) else {folder.name: self._trust[folder.name]}
        model, card = files.load_as(Card, folder, trust)
        return Chain(card.name, model, card.input.shape, declared=card.nodes).to(self._device)


@dataclass(frozen=True)
class Smaller:
    """A block in a smaller form, as it was fitted: see `lib.dery.assembly.forms`.

    set: k, from 1.
    r2: of what leaves it, or its stitch, to what leaves those nodes in the whole block, over positions and channels.
    kl: KL divergence of the network's answers with this form in it from its own, in nats an image.
    edge: the stitch that stands for what is left out, None of narrow forms.
    """

    block: Block
    set: int
    r2: float
    kl: float
    edge: Edge | None = None


@dataclass(frozen=True)
class Narrow:
    """A network all of whose blocks have one width. kept: layer name -> output channels; checksum: of its weights."""

    chain: Chain
    kept: Mapping[str, tuple[int, ...]]
    checksum: str


@dataclass(frozen=True)
class Bricks:
    """The networks and the images.

    cuts: of each network, K+1 positions.
    fit: for each network the same unlabelled train images, in the same order, under its own transform.
    classes: those of the task.
    joining: how stitches come about.
    seed: of random stitches, and of what is drawn.
    labelled: as `fit`, train images for closed-form heads; empty where none is asked for.
    head, head_shrinkage: method of those heads and its strength.
    pull: of refitted layers and heads towards the weights that they had.
    kept: where what crosses the networks' cuts waits.
    edges: stitches that have been fitted; the others are when they are needed.
    forms: of each network's blocks, beside the whole ones; narrow: where those with fewer channels lie, by network and
        width.
    """

    cards: tuple[Card, ...]
    chains: Sequence[Chain]
    cuts: tuple[Cuts, ...]
    fit: tuple[Loader, ...]
    classes: tuple[str, ...]
    joining: Edges = field(default_factory=Edges)
    seed: int = 0
    labelled: tuple[Loader, ...] = ()
    head: Method = "lda"
    head_shrinkage: float = 1e-3
    pull: float = 0.1
    kept: Memo = field(default_factory=Memo)
    edges: Mapping[Joint, Edge] = field(default_factory=dict)
    forms: Mapping[str, Sequence[Smaller]] = field(default_factory=dict)
    narrow: Mapping[tuple[str, float], Narrow] = field(default_factory=dict)

    @property
    def sets(self) -> int:
        """The number of equivalence sets, K."""
        return len(self.cuts[0]) - 1

    @property
    def device(self) -> torch.device:
        """Where networks are put together and images come."""
        return torch.device(self.fit[0].images.device)

    def keeps_head(self, m: int) -> bool:
        """Whether network m already answers with the task's classes, so that its own head serves."""
        return self.cards[m].classes == self.classes

    @property
    def form(self) -> Form:
        """Of stitches."""
        return "paper" if self.joining.init == "paper" else "linear"

    def patches(self, source: Layout, target: Layout) -> tuple[int, ...]:
        """The sides of patches among which the fit of a stitch may choose: 1 is pooling."""
        down = self.joining.down
        among_tokens = source.kind == target.kind == "tokens" and self.form == "paper"
        if down == "pool" or among_tokens or not takes_patches(source, target):
            return (1,)
        if down == "patch" or self.form == "paper":
            return (2,)
        return (1, 2) if self.joining.init == "least_squares" else (1,)

    @property
    def steps(self) -> tuple[Step, ...]:
        """Between which inner boundaries stitches may stand, those of equal depth first."""
        shifts = sorted(range(-self.joining.window, self.joining.window + 1), key=abs)
        return tuple((k, shift) for shift in shifts for k in range(1, self.sets) if 1 <= k + shift < self.sets)

    @property
    def positions(self) -> int:
        """How many of an image's positions become rows of a regression, at most."""
        return max(1, self.joining.rows // max(1, len(self.fit[0].index)))

    @cached_property
    def blocks(self) -> tuple[tuple[Block, ...], ...]:
        """[K][N], the blocks of each set, in the order of `cards`."""
        pairs = zip(self.cards, self.cuts, strict=True)
        own = [[Block(card.name, i, j) for i, j in pairwise(cuts)] for card, cuts in pairs]
        return tuple(zip(*own, strict=True))

    def chain(self, block: Block) -> Chain:
        """The chain whose nodes are those of a block, which leaves out none."""
        return self.narrow[block.network, block.width].chain if block.narrow else self.chains[self.place(block.network)]

    def pick(self, networks: Sequence[int]) -> Pick:
        """The choice of the k-th block of the k-th of `networks`."""
        return Pick.of(self.blocks, networks)

    def whole(self, m: int) -> Pick:
        """The unmodified network m, as it would be used for the task."""
        return self.pick((m,) * self.sets)

    def sample(self, expected: Input) -> torch.Tensor:
        """A few images of the fits as networks expect them that have this input: [SAMPLE or fewer, 3, h, w]."""
        if expected not in self._samples:
            m = [card.input for card in self.cards].index(expected)
            self._samples[expected] = next(iter(self.fit[m]))[0][:SAMPLE].clone()
        return self._samples[expected]

    @cached_property
    def _samples(self) -> dict[Input, torch.Tensor]:
        return {}

    def place(self, network: str) -> int:
        """A network's m: where the network of that name stands in `cards` and everything else."""
        return [card.name for card in self.cards].index(network)


def open_bricks(
    folder: Path,
    names: Sequence[str],
    cuts: Mapping[str, Cuts],
    data: DataSet,
    joining: Edges,
    seed: int,
    params: Assembly | None = None,
    trust: Trust = False,
) -> Bricks:
    """The networks `names` below `folder`, cut at `cuts`; networks that expect the same input share their images.

    folder: of the zoo.
    names: of the networks, in order.
    cuts: of each, K+1 positions.
    data: its probe images, the first `joining.images` of them, are those of the fits; networks are put together on its
        device.
    joining: how stitches come about.
    seed: of what is drawn.
    params: of closed-form heads and what is refitted; None where only stitches are asked for.
    trust: see `Shelf`.
    """
    cards = read_cards(folder, list(names))
    transforms = {card.input: card.input.transform() for card in cards.values()}

    def loaders(index: np.ndarray) -> tuple[Loader, ...]:
        own = {key: Loader(data.images, index, t, joining.batch_size) for key, t in transforms.items()}
        return tuple(own[card.input] for card in cards.values())

    found = Bricks(
        cards=tuple(cards.values()),
        chains=Shelf([folder / name for name in names], trust, data.images.device),
        cuts=tuple(cuts[name] for name in names),
        fit=loaders(data.probe[: joining.images]),
        classes=data.classes,
        joining=joining,
        seed=seed,
    )
    if params is None:
        return found
    return replace(
        found,
        labelled=loaders(stratified_sample(data.images, data.train, params.head_images, seed)),
        head=params.head,
        head_shrinkage=params.head_shrinkage,
        pull=params.pull,
    )
