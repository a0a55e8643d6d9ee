"""Networks of this wing on disk: recipe.json, from which one is built, and model.safetensors, which fills it."""

from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

from torch import nn

from lib import artifacts
from lib.checkpoint import assign
from lib.errors import BrickyardError


class Recipe(Protocol):
    """What describes a network: enough to build it with random weights, and the checksum of its own."""

    @property
    def sha256(self) -> str:
        """Of the weights, empty before they are saved."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        ...

    @classmethod
    def from_dict(cls, recipe: dict[str, Any]) -> Self:
        """The inverse of `to_dict`."""
        ...

    def build(self) -> nn.Module:
        """The network with random weights, in eval mode."""
        ...


R = TypeVar("R", bound=Recipe)


def save(folder: Path, module: nn.Module, recipe: Recipe) -> None:
    """Writes model.safetensors and recipe.json."""
    sha256 = artifacts.write_tensors(folder / "model.safetensors", module.state_dict())
    artifacts.write_json(folder / "recipe.json", {**recipe.to_dict(), "sha256": sha256})


def load(folder: Path, kind: type[R]) -> tuple[nn.Module, R]:
    """The network that `save` left, in eval mode, and its recipe, a `kind`; nothing else is needed.

    Raises BrickyardError when recipe and weights do not belong together.
    """
    recipe = kind.from_dict(artifacts.read_json(folder / "recipe.json"))
    module = recipe.build()
    state = artifacts.read_tensors(folder / "model.safetensors")
    if artifacts.tensor_checksum(state) != recipe.sha256:
        raise BrickyardError(f"{folder}: model.safetensors does not belong to recipe.json; dvc repro the stage again")
    assign(module, state)
    return module, recipe
