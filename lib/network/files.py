"""Networks of this wing on disk: recipe.json, from which one is built, and model.safetensors, which fills it."""

from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

from torch import nn

from ..base import artifacts
from ..base.errors import BrickyardError
from ..trace.cost import Cost
from ..zoo.architecture import Trust
from ..zoo.networks import Input
from ..zoo.weights import check_params, fill, logits_of, named, read_weights


class Recipe(Protocol):
    """What describes a network: enough to build it with random weights, and the checksum of its own."""

    @property
    def sha256(self) -> str:
        """Of the weights, empty before they are saved."""
        ...

    @property
    def cost(self) -> Cost:
        """Of the network."""
        ...

    @property
    def classes(self) -> tuple[str, ...]:
        """Names, in the order of the outputs."""
        ...

    @property
    def input(self) -> Input:
        """What it expects."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        ...

    @classmethod
    def from_dict(cls, recipe: Any) -> Self:
        """The inverse of `to_dict`."""
        ...

    def build(self, trust: Trust = False) -> nn.Module:
        """The network with random weights, in eval mode; trust: as for `load`."""
        ...


R = TypeVar("R", bound=Recipe)


def save(folder: Path, module: nn.Module, recipe: Recipe) -> None:
    """Writes model.safetensors and recipe.json."""
    sha256 = artifacts.write_tensors(folder / "model.safetensors", module.state_dict())
    artifacts.write_json(folder / "recipe.json", {**recipe.to_dict(), "sha256": sha256})


def load(folder: Path, kind: type[R], trust: Trust = False) -> tuple[nn.Module, R]:
    """The network that `save` left, in eval mode, and its recipe, a `kind`; nothing else is needed.

    Runs no code but timm's, torchvision's, and of a file below data/models that is what it was when the network was
    made; trust: True for any that the recipe names, or entries of params.yaml, for the sources of these names. Raises
    BrickyardError naming what is missing or damaged, or where recipe and weights do not belong together, before
    anything is run.
    """
    file = Path(folder) / "recipe.json"
    stored = artifacts.read_json(file)
    try:
        recipe = kind.from_dict(stored)
        state = read_weights(file.with_name("model.safetensors"), recipe.sha256)
        module = recipe.build(trust)
        fill(module, state, file.with_name("model.safetensors"))
        check_params(module, recipe.cost)
        outputs = logits_of(module, recipe.input.shape)
    except BrickyardError as error:
        raise named(file, error) from None
    except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:  # parts that do not fit
        raise BrickyardError(f"{file}: damaged: {error}; dvc repro") from None
    if outputs not in (None, len(recipe.classes)):
        raise BrickyardError(f"{file}: {len(recipe.classes)} classes, but the network gives {outputs} logits")
    return module, recipe
