"""One call opens any network that is made here: of the zoo, reassembled, a component, assembled."""

from pathlib import Path

from torch import nn

from ..base import artifacts
from ..base.errors import BrickyardError
from ..base.stored import kind_of
from ..zoo.architecture import Trust
from ..zoo.card import Card
from .assembled import Assembled
from .component import Component
from .files import load_as
from .reassembled import Reassembled

Recipe = Card | Reassembled | Component | Assembled
"""What describes a network: its kind, input, classes, cost, licences, and how it is built; a card, for the zoo's."""

_KINDS: dict[str, type[Reassembled] | type[Component] | type[Assembled]] = {
    kind.kind: kind for kind in (Reassembled, Component, Assembled)
}


def load(folder: str | Path, trust: Trust = False) -> tuple[nn.Module, Recipe]:
    """The network in `folder`, wherever that has been moved, in eval mode, ready to be trained, and its recipe.

    Needs no zoo and runs no code but timm's, torchvision's, and of a file below data/models that is what it was when
    the network was made; trust: True for whatever the recipe names, or entries of params.yaml, whose factories may run
    for the sources of these names. Raises BrickyardError naming the file that is missing or damaged, of an earlier
    format, or does not belong to the other, before anything is run.
    """
    folder = Path(folder)
    if (folder / Card.file).is_file():
        return load_as(Card, folder, trust)
    file = folder / Reassembled.file
    if not file.exists():
        raise BrickyardError(f"{folder} holds no network: neither {Card.file} nor {file.name} is there")
    stored = artifacts.read_json(file)
    try:
        kind = kind_of(stored)
    except BrickyardError as error:
        raise BrickyardError(f"{file}: {error}") from None
    if not isinstance(kind, str) or kind not in _KINDS:
        raise BrickyardError(f"{file}: kind = {repr(kind)[:80]}: should be one of {', '.join(_KINDS)}")
    return load_as(_KINDS[kind], folder, trust)
