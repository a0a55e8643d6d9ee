"""What candidates are made of: the zoo's networks, cut into K blocks each, and images to fit them together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from itertools import pairwise
from pathlib import Path
from typing import overload

from ...chain.chain import Chain
from ...chain.layout import Layout
from ...images.data import DataSet, Loader, stratified_sample
from ...network import files
from ...network.blocks import Block, Pick
from ...network.modules import Form
from ...params.assembly import Assembly, Stitching
from ...zoo.architecture import Trust
from ...zoo.card import Card, read_cards
from ..partition.sets import Cuts
from .heads import Method
from .stitching import takes_patches

OPEN = 8  # networks in memory at once


class Shelf(Sequence[Chain]):
    """The chains of networks on disk, each opened when it is asked for; the last few stay open."""

    def __init__(self, folders: Sequence[Path], trust: Trust = False) -> None:
        """trust: as for `load`; where it is entries of params.yaml, each network has to have one."""
        self._folders, self._trust = tuple(folders), trust
        self._opened = lru_cache(maxsize=OPEN)(self._open)

    def __len__(self) -> int:
        return len(self._folders)

    @overload
    def __getitem__(self, index: int) -> Chain: ...
    @overload
    def __getitem__(self, index: slice) -> "Shelf": ...
    def __getitem__(self, index: int | slice) -> "Chain | Shelf":
        return (
            Shelf(self._folders[index], self._trust)
            if isinstance(index, slice)
            else self._opened(range(len(self))[index])
        )

    def _open(self, index: int) -> Chain:
        folder = self._folders[index]
        trust = self._trust if isinstance(self._trust, bool) else {folder.name: self._trust[folder.name]}
        model, card = files.load_as(Card, folder, trust)
        return Chain(card.name, model, card.input.shape, declared=card.nodes)


@dataclass(frozen=True)
class Bricks:
    """The networks and the images.

    cuts: of each network, K+1 positions.
    fit: for each network the same unlabelled train images, in the same order, under its own transform.
    labelled: likewise, train images for closed-form heads.
    classes: those of the task.
    head, head_shrinkage: method of those heads and its strength.
    stitching: how `reassembly` joins blocks.
    seed: of random stitches.
    """

    cards: tuple[Card, ...]
    chains: Sequence[Chain]
    cuts: tuple[Cuts, ...]
    fit: tuple[Loader, ...]
    labelled: tuple[Loader, ...]
    classes: tuple[str, ...]
    ridge: float
    head: Method = "lda"
    head_shrinkage: float = 1e-3
    stitching: Stitching = field(default_factory=Stitching)
    seed: int = 0

    @property
    def sets(self) -> int:
        """The number of equivalence sets, K."""
        return len(self.cuts[0]) - 1

    def keeps_head(self, m: int) -> bool:
        """Whether network m already answers with the task's classes, so that its own head serves."""
        return self.cards[m].classes == self.classes

    @property
    def form(self) -> Form:
        """Of stitches."""
        return "paper" if self.stitching.init == "paper" else "linear"

    def patches(self, source: Layout, target: Layout) -> tuple[int, ...]:
        """The sides of patches among which the fit of a stitch may choose: 1 is pooling."""
        down = self.stitching.down
        among_tokens = source.kind == target.kind == "tokens" and self.form == "paper"
        if down == "pool" or among_tokens or not takes_patches(source, target):
            return (1,)
        if down == "patch" or self.form == "paper":
            return (2,)
        return (1, 2) if self.stitching.init == "least_squares" else (1,)

    @cached_property
    def blocks(self) -> tuple[tuple[Block, ...], ...]:
        """[K][N], the blocks of each set, in the order of `cards`."""
        pairs = zip(self.cards, self.cuts, strict=True)
        own = [[Block(card.name, i, j) for i, j in pairwise(cuts)] for card, cuts in pairs]
        return tuple(zip(*own, strict=True))

    def pick(self, networks: Sequence[int]) -> Pick:
        """The choice of the k-th block of the k-th of `networks`."""
        return Pick.of(self.blocks, networks)

    def whole(self, m: int) -> Pick:
        """The unmodified network m, as it would be used for the task."""
        return self.pick((m,) * self.sets)

    def place(self, network: str) -> int:
        """A network's m: where the network of that name stands in `cards` and everything else."""
        return [card.name for card in self.cards].index(network)


def open_bricks(
    folder: Path,
    names: Sequence[str],
    cuts: Mapping[str, Cuts],
    data: DataSet,
    params: Assembly,
    seed: int,
    trust: Trust = False,
) -> Bricks:
    """The networks `names` below `folder`, cut at `cuts`; networks that expect the same input share their images;
    trust: see `Shelf`.
    """
    cards = read_cards(folder, list(names))
    chosen = stratified_sample(data.images, data.train, params.head_images, seed)
    transforms = {card.input: card.input.transform() for card in cards.values()}
    fit = {key: Loader(data.images, data.probe, t, params.batch_size) for key, t in transforms.items()}
    labelled = {key: Loader(data.images, chosen, t, params.batch_size) for key, t in transforms.items()}
    return Bricks(
        cards=tuple(cards.values()),
        chains=Shelf([folder / name for name in names], trust),
        cuts=tuple(cuts[name] for name in names),
        fit=tuple(fit[card.input] for card in cards.values()),
        labelled=tuple(labelled[card.input] for card in cards.values()),
        classes=data.classes,
        ridge=params.ridge,
        stitching=params.stitch,
        seed=seed,
        head=params.head,
        head_shrinkage=params.head_shrinkage,
    )
