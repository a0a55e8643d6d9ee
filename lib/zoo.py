"""Trained networks: how one is built from its entry, filled with weights, saved with a card and opened again."""

import difflib
import hashlib
import importlib
import importlib.util
import inspect
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from lib import artifacts, checkpoint
from lib.cost import Cost
from lib.errors import BrickyardError
from lib.params.zoo import ZooModel

if TYPE_CHECKING:
    from lib.data import Transform

ROOT = Path(__file__).parents[1]  # of the repository


@dataclass(frozen=True)
class Architecture:
    """Everything that is needed to build a network without its weights.

    timm, torchvision: an architecture of theirs; factory: `file.py:function` or `package.module:function`, `sha256`
    that of the file; kwargs: what it is called with; num_classes: length of its logits, None for what it has by itself.
    """

    timm: str | None
    torchvision: str | None
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
        if self.torchvision is not None:
            return _build_torchvision(self.torchvision, self.num_classes, self.kwargs, pretrained=False).eval()
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
    """What is known of a zoo network; nodes: module paths that the user declared, none where they are to be found;
    weights: where they came from (`origin`); accuracy: `validation`, `test` and `balanced_test` (the mean of the
    classes'), over its own classes, in percent, or None; checksum: of the weights.
    """

    name: str
    architecture: Architecture
    input: Input
    classes: tuple[str, ...]
    nodes: tuple[str, ...]
    weights: str
    licence: str
    cost: Cost
    accuracy: dict[str, float] | None
    checksum: str = ""

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, card: dict[str, Any]) -> "Card":
        """The inverse of `to_dict`."""
        parts = {"architecture": Architecture(**card["architecture"]), "input": input_from_dict(card["input"])}
        lists = {key: tuple(card[key]) for key in ("classes", "nodes")}
        return cls(**{**card, **parts, **lists, "cost": Cost(**card["cost"])})


def input_from_dict(stored: dict[str, Any]) -> Input:
    """An `Input` from its JSON form."""
    return Input(**{**stored, "mean": tuple(stored["mean"]), "std": tuple(stored["std"])})


def create(name: str, entry: ZooModel, num_classes: int | None) -> tuple[nn.Module, Architecture, Input]:
    """Builds an entry's network, with weights unless they are to be trained here; None keeps its own classes.

    Raises BrickyardError naming the entry.
    """
    try:
        sha256 = _factory(entry.factory)[1] if entry.factory is not None else None
        architecture = Architecture(entry.timm, entry.torchvision, entry.factory, sha256, entry.kwargs, num_classes)
        if entry.weights == "pretrained" and entry.timm is not None:
            model = _build_timm(entry.timm, num_classes, entry.kwargs, pretrained=True)
        elif entry.weights == "pretrained":
            model = _build_torchvision(str(entry.torchvision), num_classes, entry.kwargs, pretrained=True)
        else:
            model = architecture.build()
        if entry.weights not in ("train", "pretrained"):
            path = Path(entry.weights)
            tensors = checkpoint.read(path)
            if num_classes is None and (count := checkpoint.classes(model, tensors)) is not None:
                architecture = replace(architecture, num_classes=count)
                model = architecture.build()
            checkpoint.fill(model, tensors, path)
        expected = _input(model, entry)
        _check_output(model, expected, num_classes)
    except BrickyardError as error:
        raise BrickyardError(f"zoo.models.{name}: {error}") from error
    return model.eval(), architecture, expected


def own_classes(model: nn.Module, expected: Input) -> tuple[str, ...]:
    """Names for the outputs of a network with labels of its own: their numbers."""
    with torch.no_grad():
        return tuple(str(i) for i in range(model(torch.zeros(1, *expected.shape)).shape[1]))


def origin(entry: ZooModel, model: nn.Module) -> str:
    """Where the weights of an entry's network came from: `train` (here), the tag of pretrained ones, or their file and,
    in brackets, where in it they were found.
    """
    if entry.weights == "pretrained" and entry.timm is not None:
        config: Any = model.pretrained_cfg
        return f"pretrained {config['architecture']}.{config['tag']}".rstrip(".")
    if entry.weights == "pretrained":
        from torchvision.models import get_model_weights

        weights: Any = get_model_weights(str(entry.torchvision))
        return f"pretrained {weights.DEFAULT}"
    path = Path(entry.weights)
    name = path.name if path.is_absolute() else entry.weights
    if entry.weights == "train" or not path.is_file():
        return name
    found = str(checkpoint.found(model, path))
    return f"{name} ({found})" if found else name


def save(folder: Path, model: nn.Module, card: Card) -> None:
    """Writes model.safetensors and card.json."""
    checksum = artifacts.write_tensors(folder / "model.safetensors", model.state_dict())
    artifacts.write_json(folder / "card.json", replace(card, checksum=checksum).to_dict())


def load(folder: Path) -> tuple[nn.Module, Card]:
    """The network that `save` left, in eval mode, and its card."""
    card = Card.from_dict(artifacts.read_json(folder / "card.json"))
    model = card.architecture.build()
    checkpoint.assign(model, artifacts.read_tensors(folder / "model.safetensors"))
    return model.eval(), card


def read_cards(folder: Path, names: list[str]) -> dict[str, Card]:
    """The cards of some zoo networks, by name."""
    return {name: Card.from_dict(artifacts.read_json(folder / name / "card.json")) for name in names}


def _build_timm(name: str, num_classes: int | None, kwargs: dict[str, Any], pretrained: bool) -> nn.Module:
    import timm

    if not timm.is_model(name):
        raise BrickyardError(f"timm has no architecture {name!r}{_similar(name, timm.list_models())}")
    try:
        return timm.create_model(name, pretrained=pretrained, **_with_classes(num_classes, kwargs))
    except Exception as error:  # whatever an architecture raises on arguments it does not take
        raise BrickyardError(f"timm {name} with {kwargs}: {type(error).__name__}: {error}") from error


def _build_torchvision(name: str, num_classes: int | None, kwargs: dict[str, Any], pretrained: bool) -> nn.Module:
    from torchvision import models

    known = models.list_models(module=models)
    if name not in known:
        raise BrickyardError(f"torchvision has no classifier {name!r}{_similar(name, known)}")
    try:
        if not pretrained:
            return models.get_model(name, weights=None, **_with_classes(num_classes, kwargs))
        model = models.get_model(name, weights="DEFAULT", **_with_classes(None, kwargs))
    except Exception as error:  # whatever an architecture raises on arguments it does not take
        raise BrickyardError(f"torchvision {name} with {kwargs}: {type(error).__name__}: {error}") from error
    if num_classes is not None:
        raise BrickyardError(f"torchvision {name}: pretrained weights have labels of their own; write `classes: own`")
    return model


def _similar(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=3)
    return f"; did you mean {', '.join(close)}?" if close else ""


def _check_output(model: nn.Module, expected: Input, num_classes: int | None) -> None:
    """Raises BrickyardError unless an image of the expected size gives one row of logits."""
    parameters = inspect.signature(model.forward).parameters.values()
    needed = [p.name for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    if len(needed) > 1:
        raise BrickyardError(f"takes {len(needed)} inputs ({', '.join(needed)}); a network must take one, the images")
    try:
        with torch.no_grad():
            logits = model.eval()(torch.zeros(1, *expected.shape))
    except Exception as error:  # whatever a network does with an image it does not take
        reason = " ".join(str(error).split())[:200]
        size = f"{expected.size} x {expected.size}"
        raise BrickyardError(
            f"fails on an image of {size} pixels ({reason}); set input_size to what it takes"
        ) from error
    if not isinstance(logits, torch.Tensor):
        raise BrickyardError(f"returns a {type(logits).__name__}; a network must return logits, one tensor")
    if logits.ndim != 2 or num_classes not in (None, logits.shape[1]):
        raise BrickyardError(
            f"returns {list(logits.shape)} for one image; expected logits [1, {num_classes or 'classes'}]"
        )


def _with_classes(num_classes: int | None, kwargs: dict[str, Any]) -> dict[str, Any]:
    """Keyword arguments of a builder: lists as tuples, num_classes unless it keeps its own."""
    arguments = {key: tuple(value) if isinstance(value, list) else value for key, value in kwargs.items()}
    return arguments if num_classes is None else {**arguments, "num_classes": num_classes}


def _factory(reference: str) -> tuple[Any, str | None]:
    """The function that `path/to/file.py:function` or `package.module:function` names, and its file's SHA-256."""
    where, _, function = reference.rpartition(":")
    try:
        if where.endswith(".py"):
            spec = importlib.util.spec_from_file_location(Path(where).stem, _found(where))
            if spec is None or spec.loader is None:
                raise BrickyardError(f"{where} is not a Python file")
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
        else:
            module = importlib.import_module(where)
    except FileNotFoundError:
        looked = " or ".join(dict.fromkeys((str(Path.cwd()), str(ROOT))))
        raise BrickyardError(
            f"factory {reference}: {where} not found in {looked}; it holds the network's code"
        ) from None
    except Exception as error:  # whatever the user's own file raises
        raise BrickyardError(f"factory {reference}: {where}: {type(error).__name__}: {error}") from error
    if not callable(getattr(module, function, None)):
        raise BrickyardError(f"factory {reference}: {where} has no function {function!r}")
    file = getattr(module, "__file__", None)
    sha256 = hashlib.sha256(Path(file).read_bytes()).hexdigest() if file else None
    return getattr(module, function), sha256


def _found(where: str) -> Path:
    """`where` in the current folder, else in the repository."""
    return Path(where) if Path(where).exists() else ROOT / where


def _input(model: nn.Module, entry: ZooModel) -> Input:
    from timm.data import resolve_data_config

    wanted: dict[str, Any] = {}
    if entry.input_size is not None:
        wanted = {"input_size": (3, entry.input_size, entry.input_size), "crop_pct": 1.0}
    if entry.torchvision is not None:
        from torchvision.models import get_model_weights

        weights: Any = get_model_weights(entry.torchvision)
        preset = weights.DEFAULT.transforms()
        size = preset.crop_size[0]
        known = {"mean": preset.mean, "std": preset.std, "interpolation": preset.interpolation.value}
        wanted = {**known, "input_size": (3, size, size), "crop_pct": size / preset.resize_size[0], **wanted}
    config = resolve_data_config(wanted, model=model)
    return Input(
        size=config["input_size"][-1],
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        interpolation=config["interpolation"],
        crop_pct=float(config["crop_pct"]),
    )
