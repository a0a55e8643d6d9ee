"""From an entry of the zoo to a network: built, filled with the weights that it names, and tried on an image."""

import copy
import inspect
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..base.errors import BrickyardError
from ..params.zoo import ZooModel
from . import checkpoint
from .architecture import Architecture, Factory
from .card import Input
from .published import build_timm, build_torchvision, torchvision_weights


def create(name: str, entry: ZooModel, num_classes: int | None) -> tuple[nn.Module, Architecture, Input]:
    """Builds an entry's network, with its weights unless it is trained here or stays as torch's global generator makes
    it; None keeps its own classes.

    Raises BrickyardError naming the entry.
    """
    check_pretrained(name, entry, num_classes)
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
        if entry.weights not in ("train", "pretrained", "random"):
            path = Path(entry.weights)
            tensors = checkpoint.read(path)
            if num_classes is None and (count := checkpoint.classes(model, tensors)) is not None:
                architecture = replace(architecture, num_classes=count)
                model = architecture.build(trust=True)
            checkpoint.fill(model, tensors, path)
        expected = _input(model, entry)
        check_output(model, expected, num_classes, train=entry.weights == "train")
    except BrickyardError as error:
        raise BrickyardError(f"zoo.models.{name}: {error}") from error
    return model.eval(), architecture, expected


def untrained(entry: ZooModel, num_classes: int | None) -> tuple[nn.Module, Input]:
    """An entry's network with random weights, whichever it names, or under torch.device("meta") with none; and what
    images it expects. Raises BrickyardError where the architecture is unknown or refuses its arguments.
    """
    architecture = Architecture(entry.timm, entry.torchvision, entry.factory, None, entry.kwargs, num_classes)
    model = architecture.build(trust=True)
    return model, _input(model, entry)


def check_pretrained(name: str, entry: ZooModel, num_classes: int | None) -> None:
    """Raises BrickyardError naming the entry where others' weights would not fill all of its network; nothing is
    downloaded. As many labels as the data set has are taken for its own, in its order.
    """
    if entry.weights != "pretrained":
        return
    count, given = _pretrained_classes(entry), entry.kwargs.get("num_classes")
    if num_classes is not None and num_classes != count:
        known = f"{count} labels" if count else "labels"
        raise BrickyardError(
            f"zoo.models.{name}.classes = {entry.classes!r}: pretrained weights have {known} of their own; write "
            "`classes: own` to keep them, or weights: train to train it on the data set's"
        )
    if count is not None and given not in (None, count):
        raise BrickyardError(
            f"zoo.models.{name}.kwargs.num_classes = {given!r}: the pretrained weights have {count}; leave it out"
        )


def own_classes(model: nn.Module, expected: Input) -> tuple[str, ...]:
    """Names for the outputs of a network with labels of its own: their numbers."""
    with torch.no_grad():
        return tuple(str(i) for i in range(model(torch.zeros(1, *expected.shape)).shape[1]))


def origin(entry: ZooModel, model: nn.Module) -> str:
    """The origin of the weights of an entry's network: `train` (here), `random`, the tag of pretrained ones, or their
    file and, in brackets, where in it they were found.
    """
    if entry.weights == "pretrained" and entry.timm is not None:
        config: Any = model.pretrained_cfg
        return f"pretrained {config['architecture']}.{config['tag']}".rstrip(".")
    if entry.weights == "pretrained":
        return f"pretrained {torchvision_weights(str(entry.torchvision))}"
    path = Path(entry.weights)
    name = path.name if path.is_absolute() else entry.weights
    if entry.weights in ("train", "random") or not path.is_file():
        return name
    found = str(checkpoint.found(model, path))
    return f"{name} ({found})" if found else name


def check_output(model: nn.Module, expected: Input, num_classes: int | None, train: bool = False) -> None:
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


def _pretrained_classes(entry: ZooModel) -> int | None:
    """How many classes others' weights tell apart; None where there are none for this architecture."""
    if entry.timm is not None:
        import timm

        try:
            config = timm.get_pretrained_cfg(entry.timm)
        except RuntimeError:  # no such tag, which the builder tells
            return None
        return None if config is None else config.num_classes
    try:
        return len(torchvision_weights(str(entry.torchvision)).meta["categories"])
    except BrickyardError:  # which the builder tells
        return None


def _input(model: nn.Module, entry: ZooModel) -> Input:
    from timm.data import resolve_data_config

    wanted: dict[str, Any] = {}
    if entry.input_size is not None:
        wanted = {"input_size": (3, entry.input_size, entry.input_size), "crop_pct": 1.0}
    if entry.torchvision is not None:
        preset = torchvision_weights(entry.torchvision).transforms()
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
