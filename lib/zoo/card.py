"""What is known of a network of the zoo: its card, and what images it expects."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field
from torch import nn

from ..base import artifacts
from ..base.errors import BrickyardError
from ..base.stored import CHECKED, MANY, ClassNames, Name, Pixels, Seal, Share, Text, parse_kind, stamped
from ..trace.cost import Counted
from .architecture import Architecture, Bounded, Trust, trusted

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

    from ..images.data import Transform

Channels = Annotated[tuple[Annotated[float, Field(ge=-1000, le=1000)], ...], Field(min_length=3, max_length=3)]


@dataclass(frozen=True)
class Input:
    """What a network expects: `size` x `size` pixels after resizing to size / crop_pct, normalised by mean and std."""

    __pydantic_config__ = CHECKED

    size: Pixels
    mean: Channels
    std: Annotated[tuple[Annotated[float, Field(gt=0, le=1000)], ...], Field(min_length=3, max_length=3)]
    interpolation: Annotated[str, Field(pattern="^(nearest|bilinear|bicubic|lanczos|box|hamming)$")]
    crop_pct: Annotated[float, Field(ge=0.1, le=10)]

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape of an image, [3, h, w]."""
        return (3, self.size, self.size)

    def transform(self) -> "Transform":
        """PIL picture -> float32 [3, h, w], by timm's evaluation transform, which is made for the first picture."""
        return _Transform(self)


@dataclass
class _Transform:
    """timm takes seconds to import, and where what images become is found again there is no picture."""

    expected: Input
    made: Any = None

    def __call__(self, image: "Image") -> "torch.Tensor":
        if self.made is None:
            from timm.data import create_transform

            given = self.expected
            self.made = create_transform(
                input_size=given.shape,
                mean=given.mean,
                std=given.std,
                interpolation=given.interpolation,
                crop_pct=given.crop_pct,
            )
        return self.made(image)


@dataclass(frozen=True)
class Card:
    """What is known of a zoo network.

    nodes: module paths that the user declared, none where they are to be found.
    weights: where they came from (`origin`).
    accuracy: `validation`, `test` and `balanced_test` (the mean of the classes'), over its own classes, in percent, or
        None.
    checksum: of the weights.
    """

    __pydantic_config__ = CHECKED
    kind: ClassVar[str] = "zoo"
    file: ClassVar[str] = "card.json"

    name: Name
    architecture: Architecture
    input: Input
    classes: ClassNames
    nodes: Annotated[tuple[Text, ...], Field(max_length=MANY)]
    weights: Text
    licence: Text
    cost: Counted
    accuracy: dict[Name, Share] | None
    checksum: Seal = ""

    @property
    def licences(self) -> tuple[str, ...]:
        """The licence of its weights."""
        return (self.licence,)

    def build(self, trust: Trust = False, room: Bounded | None = None) -> nn.Module:
        """The network with random weights, in eval mode; trust, room: see `Architecture.build`.

        Raises BrickyardError where `trust` is entries of params.yaml and the network is of none of them.
        """
        if not isinstance(trust, bool) and self.name not in trust:
            raise BrickyardError(f"the network of {self.name}, not of {', '.join(trust)}; dvc repro the zoo first")
        return self.architecture.build(trusted(trust, self.name, self.architecture), room)

    def to_dict(self) -> dict[str, Any]:
        """The card as JSON holds it."""
        return stamped(self.kind, asdict(self))

    @classmethod
    def from_dict(cls, card: Any) -> "Card":
        """The inverse of `to_dict`. Raises BrickyardError naming the key that is not right."""
        if isinstance(card, dict) and card.keys().isdisjoint(("kind", "format")):
            card = stamped(cls.kind, card)  # before cards had a format they had this form
        return parse_kind(cls, cls.kind, card)


def read_cards(folder: Path, names: list[str]) -> dict[str, Card]:
    """The cards of some zoo networks, by name. Raises BrickyardError naming the file that is missing or damaged."""
    return {name: _read(folder / name / Card.file) for name in names}


def _read(file: Path) -> Card:
    stored = artifacts.read_json(file)
    try:
        return Card.from_dict(stored)
    except BrickyardError as error:
        raise BrickyardError(f"{file}: {error}") from None
