"""Networks on disk: card.json or recipe.json, from which one is built, and model.safetensors, which fills it."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self, TypeVar

import torch
from torch import nn

from ..base import artifacts, environment
from ..base.errors import BrickyardError
from ..trace.cost import Cost, count, params, without_data
from ..zoo import checkpoint
from ..zoo.architecture import MEMORY, Bounded, Trust
from ..zoo.card import Card, Input

WEIGHTS = "model.safetensors"


class Described(Protocol):
    """What describes a network: enough to build it with random weights, and the checksum of its own."""

    __dataclass_fields__: ClassVar[dict[str, Any]]
    kind: ClassVar[str]
    file: ClassVar[str]

    @property
    def input(self) -> Input:
        """What the network expects."""
        ...

    @property
    def classes(self) -> tuple[str, ...]:
        """Names, in the order of the outputs."""
        ...

    @property
    def licences(self) -> tuple[str, ...]:
        """The licences of the weights that it was made from."""
        ...

    @property
    def cost(self) -> Cost:
        """What the network costs."""
        ...

    @property
    def checksum(self) -> str:
        """The checksum of the weights, empty before they are saved."""
        ...

    def build(self, trust: Trust = False, room: Bounded | None = None) -> nn.Module:
        """The network with random weights, in eval mode; trust, room: see `Architecture.build`."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """The recipe as JSON holds it."""
        ...

    @classmethod
    def from_dict(cls, recipe: Any, /) -> Self:
        """The inverse of `to_dict`."""
        ...


R = TypeVar("R", bound=Described)


def save(folder: Path, network: nn.Module, recipe: R) -> R:
    """Writes model.safetensors and card.json or recipe.json; returns the recipe with cost and checksum filled in."""
    counted = count(network, recipe.input.shape)
    checksum = artifacts.write_tensors(folder / WEIGHTS, network.state_dict())
    recipe = replace(recipe, cost=counted, checksum=checksum)
    artifacts.write_json(folder / recipe.file, recipe.to_dict(), environment.machine())
    return recipe


def load_as(kind: type[R], folder: Path, trust: Trust = False) -> tuple[nn.Module, R]:
    """The network of a known kind (`Card` for the zoo's) that `save` left in `folder`, in eval mode, and its recipe.

    Trust and errors are those of `load.load`; a network of another kind is one of them.
    """
    file, weights = folder / kind.file, folder / WEIGHTS
    others = [name for name in ("card.json", "recipe.json") if (folder / name).exists()]
    if others and not file.exists():
        raise BrickyardError(f"{folder} holds {others[0]}, no {kind.file}: not a network of kind {kind.kind!r}")
    stored = artifacts.read_json(file)
    try:
        recipe = kind.from_dict(stored)
        tensors = _read(weights, recipe.checksum)
        network = recipe.build(trust, Bounded.by(tensors) if isinstance(recipe, Card) else Bounded(MEMORY))
        if (found := params(network)) != recipe.cost.params:
            raise BrickyardError(f"cost.params = {recipe.cost.params}, but the network has {found}; dvc repro")
        _fill(network, tensors, weights)
        if (found := _outputs(network, recipe.input.shape)) not in (None, len(recipe.classes)):
            raise BrickyardError(f"{len(recipe.classes)} classes, but the network gives {found} logits; dvc repro")
    except BrickyardError as error:
        raise error if str(error).startswith(str(folder)) else BrickyardError(f"{file}: {error}") from None
    except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:  # parts that do not fit
        raise BrickyardError(f"{file}: damaged: {error}; dvc repro") from None
    return network, recipe


def _read(file: Path, checksum: str) -> dict[str, torch.Tensor]:
    """The tensors of a file of `artifacts.write_tensors`; checksum: what the JSON beside it says of them.

    Raises BrickyardError where the file is missing or damaged, belongs to another network, or holds NaN.
    """
    tensors = artifacts.read_tensors(file)
    if artifacts.tensor_checksum(tensors) != checksum:
        raise BrickyardError(f"{file} does not belong to the JSON beside it; dvc repro the stage again")
    checkpoint.check_finite(tensors, file)
    return tensors


def _fill(network: nn.Module, tensors: Mapping[str, torch.Tensor], file: Path) -> None:
    """Puts every tensor of `file` into the network. Raises BrickyardError naming what is missing, unknown or unlike."""
    own = network.state_dict()
    for name, tensor in tensors.items():
        if name in own and own[name].dtype != tensor.dtype:
            raise BrickyardError(f"{file}: {name} is {tensor.dtype} there and {own[name].dtype} here")
    for name in own:
        if name not in tensors:
            raise BrickyardError(f"{file} leaves {name} unfilled; is it of another architecture?")
    checkpoint.fill(network, tensors, file)


def _outputs(network: nn.Module, shape: tuple[int, ...]) -> int | None:
    """How many logits the network gives for an image of `shape`; None where that cannot be told without computing.

    Raises BrickyardError where what it gives is not one row an image.
    """
    try:
        with without_data(network):
            logits = network.eval()(torch.zeros(1, *shape, device="meta"))
    except (RuntimeError, NotImplementedError, TypeError, ValueError) as error:
        if "meta" in str(error):
            return None
        raise BrickyardError(f"the network fails on its own images: {' '.join(str(error).split())[:200]}") from None
    if not isinstance(logits, torch.Tensor) or logits.ndim != 2:
        raise BrickyardError("the network gives no row of logits")
    return logits.shape[1]
