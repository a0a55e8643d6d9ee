"""Trained networks: how one is built from its entry, filled with weights, saved with a card and opened again."""

import copy
import inspect
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import torch
from pydantic import Field
from torch import nn

from ..base import artifacts
from ..base.errors import BrickyardError
from ..base.stored import CHECKED, MANY, ClassNames, Name, Pixels, Seal, Share, Text, parse
from ..params.zoo import ZooModel
from ..trace.cost import Counted
from . import checkpoint
from .architecture import Architecture, Bounded, Factory, Trust, build_timm, build_torchvision, trusted
from .weights import check_params, fill, logits_of, named, read_weights

if TYPE_CHECKING:
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

    __pydantic_config__ = CHECKED

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

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, card: Any) -> "Card":
        """The inverse of `to_dict`. Raises BrickyardError naming the key that is not right."""
        return parse(cls, card)


def create(name: str, entry: ZooModel, num_classes: int | None) -> tuple[nn.Module, Architecture, Input]:
    """Builds an entry's network, with weights unless they are to be trained here; None keeps its own classes.

    Raises BrickyardError naming the entry.
    """
    try:
        sha256 = None if entry.factory is None else Factory.find(entry.factory, trust=True).sha256
        architecture = Architecture(entry.timm, entry.torchvision, entry.factory, sha256, entry.kwargs, num_classes)
        own = entry.kwargs.get("num_classes")
        if None not in (own, num_classes) and own != num_classes:
            raise BrickyardError(f"kwargs.num_classes = {own!r}, but `classes` names {num_classes}; leave it out")
        if entry.weights == "pretrained" and entry.timm is not None:
            model = build_timm(entry.timm, num_classes, entry.kwargs, pretrained=True)
        elif entry.weights == "pretrained":
            model = build_torchvision(str(entry.torchvision), num_classes, entry.kwargs, pretrained=True)
        else:
            model = architecture.build(trust=True)
        if entry.weights not in ("train", "pretrained"):
            path = Path(entry.weights)
            tensors = checkpoint.read(path)
            if num_classes is None and (count := checkpoint.classes(model, tensors)) is not None:
                architecture = replace(architecture, num_classes=count)
                model = architecture.build(trust=True)
            checkpoint.fill(model, tensors, path)
        expected = _input(model, entry)
        _check_output(model, expected, num_classes, train=entry.weights == "train")
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


def load(folder: Path, trust: Trust = False) -> tuple[nn.Module, Card]:
    """The network that `save` left, in eval mode, and its card.

    Runs no code but timm's, torchvision's, and of a file below data/models that is what it was when the network was
    made; trust: True for any that the card names, or entries of params.yaml, of which the network must be one. Raises
    BrickyardError naming the file that is missing or damaged, or does not belong to the other, before anything is run.
    """
    file = Path(folder) / "card.json"
    try:
        card = _card(file)
        if not isinstance(trust, bool) and card.name not in trust:
            raise BrickyardError(f"the network of {card.name}, not of {', '.join(trust)}; dvc repro the zoo first")
        tensors = read_weights(file.with_name("model.safetensors"), card.checksum)
        model = card.architecture.build(trusted(trust, card.name, card.architecture), Bounded.by(tensors))
        check_params(model, card.cost)
        fill(model, tensors, file.with_name("model.safetensors"))
        _check_logits(model, card)
    except BrickyardError as error:
        raise named(file, error) from None
    return model.eval(), card


def read_cards(folder: Path, names: list[str]) -> dict[str, Card]:
    """The cards of some zoo networks, by name."""
    return {name: _card(folder / name / "card.json") for name in names}


def _card(file: Path) -> Card:
    try:
        return Card.from_dict(artifacts.read_json(file))
    except BrickyardError as error:
        raise named(file, error) from None


def _check_logits(model: nn.Module, card: Card) -> None:
    """Raises BrickyardError unless the network gives one logit a class; nothing is computed."""
    outputs = logits_of(model, card.input.shape)
    if outputs not in (None, len(card.classes)):
        raise BrickyardError(f"{len(card.classes)} classes, but the network gives {outputs} logits")


def _check_output(model: nn.Module, expected: Input, num_classes: int | None, train: bool = False) -> None:
    """Raises BrickyardError unless an image of the expected size gives one row of logits; train: in train mode, too,
    where the logits may be the first of several outputs.
    """
    parameters = inspect.signature(model.forward).parameters.values()
    needed = [p.name for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    if len(needed) > 1:
        raise BrickyardError(f"takes {len(needed)} inputs ({', '.join(needed)}); a network must take one, the images")
    first = next((m for m in model.modules() if isinstance(m, nn.Conv2d)), None)
    if first is not None and first.in_channels in (1, 2, 4) and _fails(model, expected):
        raise BrickyardError(f"takes images of {_channels(first.in_channels)}, here they have 3")
    _check_logits_of(_run(model.eval(), expected, 1), 1, num_classes, "")
    if train:
        with torch.random.fork_rng(devices=[]):
            logits = _first(_run(copy.deepcopy(model).train(), expected, 2))
        _check_logits_of(logits, 2, num_classes, " in train mode")


def _channels(count: int) -> str:
    return "1 channel" if count == 1 else f"{count} channels"


def _fails(model: nn.Module, expected: Input) -> bool:
    try:
        _run(model.eval(), expected, 1)
    except BrickyardError:
        return True
    return False


def _run(model: nn.Module, expected: Input, count: int) -> Any:
    """What the network makes of grey images."""
    try:
        with torch.no_grad():
            return model(torch.zeros(count, *expected.shape))
    except Exception as error:  # whatever a network does with an image it does not take
        reason = " ".join(str(error).split())[:200]
        size = f"{expected.size} x {expected.size} pixels{' in train mode' if model.training else ''}"
        raise BrickyardError(f"fails on an image of {size} ({reason}); set input_size to what it takes") from error


def _first(output: Any) -> Any:
    """The first tensor of what a network gives in train mode."""
    while not isinstance(output, torch.Tensor):
        items = [*output.values()] if isinstance(output, Mapping) else output
        if not isinstance(items, list | tuple) or not items:
            return output
        output = items[0]
    return output


def _check_logits_of(logits: Any, count: int, num_classes: int | None, where: str) -> None:
    if not isinstance(logits, torch.Tensor):
        raise BrickyardError(f"returns a {type(logits).__name__}{where}; a network must return logits, one tensor")
    if logits.ndim != 2 or len(logits) != count or num_classes not in (None, logits.shape[1]):
        images = "one image" if count == 1 else f"{count} images"
        raise BrickyardError(
            f"returns {list(logits.shape)} for {images}{where}; expected logits [{count}, {num_classes or 'classes'}]"
        )


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
