"""Trained networks: how one is built from its entry, filled with weights, saved with a card and opened again."""

import hashlib
import importlib
import importlib.util
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from lib import artifacts
from lib.cost import Cost
from lib.errors import BrickyardError
from lib.params.zoo import ZooModel

if TYPE_CHECKING:
    from lib.data import Transform


@dataclass(frozen=True)
class Architecture:
    """Everything that is needed to build a network without its weights.

    timm: an architecture of timm; factory: `file.py:function` or `package.module:function`, `sha256` that of the
    file; kwargs: what it is called with; num_classes: length of its logits, None for what it has by itself.
    """

    timm: str | None
    factory: str | None
    sha256: str | None
    kwargs: dict[str, Any]
    num_classes: int | None

    def build(self) -> nn.Module:
        """A network with random weights (from torch's global generator), in eval mode.

        Raises BrickyardError when the architecture is unknown, refuses its arguments, or its file has changed.
        """
        if self.timm is not None:
            return _build_timm(self.timm, self.num_classes, self.kwargs, pretrained=False).eval()
        function, sha256 = _factory(str(self.factory))
        if self.sha256 not in (None, sha256):
            raise BrickyardError(f"{self.factory} has changed since the network was made; dvc repro the zoo first")
        try:
            model = function(**_with_classes(self.num_classes, self.kwargs))
        except Exception as error:  # whatever the user's own code raises
            raise BrickyardError(f"{self.factory}: {type(error).__name__}: {error}") from error
        if not isinstance(model, nn.Module):
            raise BrickyardError(f"{self.factory} returned a {type(model).__name__}, not an nn.Module")
        return model.eval()


@dataclass(frozen=True)
class Input:
    """What a network expects: `size` x `size` pixels after resizing to size / crop_pct, normalised by mean and std."""

    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str
    crop_pct: float

    @property
    def shape(self) -> tuple[int, int, int]:
        """[3, h, w]"""
        return (3, self.size, self.size)

    def transform(self) -> "Transform":
        """PIL picture -> float32 [3, h, w], by timm's evaluation transform."""
        from timm.data import create_transform

        transform: Any = create_transform(
            input_size=self.shape,
            mean=self.mean,
            std=self.std,
            interpolation=self.interpolation,
            crop_pct=self.crop_pct,
        )
        return transform


@dataclass(frozen=True)
class Card:
    """What is known of a zoo network; accuracy: validation and test, over its own classes, in percent or None."""

    name: str
    architecture: Architecture
    input: Input
    classes: tuple[str, ...]
    weights: str
    licence: str
    cost: Cost
    accuracy: dict[str, float] | None

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, card: dict[str, Any]) -> "Card":
        """The inverse of `to_dict`."""
        parts = {"architecture": Architecture(**card["architecture"]), "input": input_from_dict(card["input"])}
        return cls(**{**card, **parts, "classes": tuple(card["classes"]), "cost": Cost(**card["cost"])})


def input_from_dict(stored: dict[str, Any]) -> Input:
    """An `Input` from its JSON form."""
    return Input(**{**stored, "mean": tuple(stored["mean"]), "std": tuple(stored["std"])})


def create(name: str, entry: ZooModel, num_classes: int | None) -> tuple[nn.Module, Architecture, Input]:
    """Builds an entry's network, with weights unless they are to be trained here; None keeps its own classes.

    Raises BrickyardError naming the entry.
    """
    try:
        if entry.timm is not None:
            model = _build_timm(entry.timm, num_classes, entry.kwargs, entry.weights == "pretrained")
            architecture = Architecture(entry.timm, None, None, entry.kwargs, num_classes)
        else:
            _, sha256 = _factory(str(entry.factory))
            architecture = Architecture(None, entry.factory, sha256, entry.kwargs, num_classes)
            model = architecture.build()
        if entry.weights not in ("train", "pretrained"):
            _fill(model, Path(entry.weights))
    except BrickyardError as error:
        raise BrickyardError(f"zoo.models.{name}: {error}") from error
    return model.eval(), architecture, _input(model, entry)


def own_classes(model: nn.Module, expected: Input) -> tuple[str, ...]:
    """Names for the outputs of a network with labels of its own: their numbers."""
    with torch.no_grad():
        return tuple(str(i) for i in range(model(torch.zeros(1, *expected.shape)).shape[1]))


def save(folder: Path, model: nn.Module, card: Card) -> None:
    """Writes model.safetensors and card.json."""
    artifacts.write_tensors(folder / "model.safetensors", model.state_dict())
    artifacts.write_json(folder / "card.json", card.to_dict())


def load(folder: Path) -> tuple[nn.Module, Card]:
    """The network that `save` left, in eval mode, and its card."""
    card = Card.from_dict(artifacts.read_json(folder / "card.json"))
    model = card.architecture.build()
    model.load_state_dict(artifacts.read_tensors(folder / "model.safetensors"))
    return model.eval(), card


def read_cards(folder: Path, names: list[str]) -> dict[str, Card]:
    """The cards of some zoo networks, by name."""
    return {name: Card.from_dict(artifacts.read_json(folder / name / "card.json")) for name in names}


def _build_timm(name: str, num_classes: int | None, kwargs: dict[str, Any], pretrained: bool) -> nn.Module:
    import timm

    if not timm.is_model(name):
        import difflib

        close = difflib.get_close_matches(name, timm.list_models(), n=3)
        hint = f"; did you mean {', '.join(close)}?" if close else ""
        raise BrickyardError(f"timm has no architecture {name!r}{hint}")
    try:
        return timm.create_model(name, pretrained=pretrained, **_with_classes(num_classes, kwargs))
    except Exception as error:  # whatever an architecture raises on arguments it does not take
        raise BrickyardError(f"timm {name} with {kwargs}: {type(error).__name__}: {error}") from error


def _with_classes(num_classes: int | None, kwargs: dict[str, Any]) -> dict[str, Any]:
    """Keyword arguments of a builder: lists as tuples, num_classes unless it keeps its own."""
    arguments = {key: tuple(value) if isinstance(value, list) else value for key, value in kwargs.items()}
    return arguments if num_classes is None else {**arguments, "num_classes": num_classes}


def _factory(reference: str) -> tuple[Any, str | None]:
    """The function that `path/to/file.py:function` or `package.module:function` names, and its file's SHA-256."""
    where, _, function = reference.rpartition(":")
    try:
        if where.endswith(".py"):
            spec = importlib.util.spec_from_file_location(Path(where).stem, where)
            if spec is None or spec.loader is None:
                raise BrickyardError(f"{where} is not a Python file")
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
        else:
            module = importlib.import_module(where)
    except FileNotFoundError:
        raise BrickyardError(f"factory {reference}: {where} not found") from None
    except ImportError as error:
        raise BrickyardError(f"factory {reference}: {error}") from error
    if not callable(getattr(module, function, None)):
        raise BrickyardError(f"factory {reference}: {where} has no function {function!r}")
    file = getattr(module, "__file__", None)
    sha256 = hashlib.sha256(Path(file).read_bytes()).hexdigest() if file else None
    return getattr(module, function), sha256


def _fill(model: nn.Module, checkpoint: Path) -> None:
    """Loads a checkpoint (safetensors, or .pth without code); every weight must be filled."""
    if not checkpoint.is_file():
        raise BrickyardError(f"weights: no file {checkpoint}; use train, pretrained or the path of a checkpoint")
    try:
        if checkpoint.suffix == ".safetensors":
            from safetensors.torch import load_file

            state: dict[str, Any] = load_file(checkpoint)
        else:
            state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged files and refused pickles come in many kinds
        raise BrickyardError(f"{checkpoint} cannot be read: {str(error).splitlines()[0]}") from error
    for key in ("state_dict", "model"):
        state = state[key] if isinstance(state.get(key), dict) else state
    state = {key.removeprefix("module."): value for key, value in state.items()}
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise BrickyardError(f"{checkpoint} does not fit: {' '.join(str(error).split())[:300]}") from None


def _input(model: nn.Module, entry: ZooModel) -> Input:
    from timm.data import resolve_data_config

    wanted: dict[str, Any] = {}
    if entry.input_size is not None:
        wanted = {"input_size": (3, entry.input_size, entry.input_size), "crop_pct": 1.0}
    config = resolve_data_config(wanted, model=model)
    return Input(
        size=config["input_size"][-1],
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        interpolation=config["interpolation"],
        crop_pct=float(config["crop_pct"]),
    )
