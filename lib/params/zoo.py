"""`zoo`: one entry a trained network."""

import math
import re
from collections.abc import Iterator
from keyword import iskeyword
from typing import Annotated, Any

from pydantic import AfterValidator, Field, field_validator, model_validator

from .section import Classes, Name, Section, Text, once, one_line
from .some import Some
from .training import Training

_DEEP, _MANY = 8, 10_000  # levels and values of kwargs


def _plain(kwargs: dict[str, Any]) -> dict[str, Any]:
    for name in kwargs:
        if not name.isidentifier() or iskeyword(name):
            raise ValueError(f"{name!r} cannot be the name of an argument")
    for i, fault in enumerate(_faults(kwargs, "", 0)):
        if fault:
            raise ValueError(fault)
        if i > _MANY:
            raise ValueError(f"should have at most {_MANY} values")
    return kwargs


def _faults(value: Any, where: str, depth: int) -> Iterator[str]:
    """Of every value below `value` what is wrong with it, or nothing."""
    if depth > _DEEP:
        yield f"{where}: is nested deeper than {_DEEP} levels"
    elif isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                yield f"{where}: the key {key!r} should be text"
            yield from _faults(item, f"{where}.{key}".lstrip("."), depth + 1)
    elif isinstance(value, list):
        for i, item in enumerate(value):
            yield from _faults(item, f"{where}.{i}", depth + 1)
    else:
        yield _fault(value, where)


def _fault(value: Any, where: str) -> str:
    if isinstance(value, str):
        try:
            one_line(value)
        except ValueError as error:
            return f"{where}: {error}"
        return "" if len(value) <= 1000 else f"{where}: should have at most 1000 characters"
    if isinstance(value, float) and not math.isfinite(value):
        return f"{where} = {value}: should be a finite number"
    if isinstance(value, int) and abs(value) >= 2**63:
        return f"{where}: is too large an integer"
    plain = value is None or isinstance(value, bool | int | float)
    return "" if plain else f"{where}: should be text, a number, true, false, null, a list or a mapping"


class ZooModel(Section):
    """An architecture (`timm`, `torchvision` or `factory`), the classes it knows, and where its weights come from.

    `timm`, `torchvision`: a name of theirs, of several weights with a tag: resnet50.a1_in1k, resnet50.IMAGENET1K_V1.
    `weights`: `train` (here, on the data set), `pretrained` (timm's or torchvision's own), `random` (as a network
        begins, for dry runs) or the path of a local checkpoint.
    `classes`: class numbers, ranges such as `0-4`, or names, separated by commas; `all`; for weights from elsewhere
        with labels of their own, `own`.
    `nodes`: module paths that are to be the nodes, for a network that cannot be cut without.
    """

    timm: Text | None = None
    torchvision: Text | None = None
    factory: Text | None = None
    kwargs: Annotated[dict[str, Any], AfterValidator(_plain)] = Field(default_factory=dict)
    weights: Text
    classes: Classes = "all"
    input_size: Annotated[int, Field(ge=1, le=4096)] | None = None
    nodes: Annotated[list[Text], Field(max_length=10_000), AfterValidator(once)] = Field(default_factory=list)
    licence: Text = "unknown"
    training: Annotated[dict[str, Any], Some(Training)] = Field(default_factory=dict)

    @field_validator("classes")
    @classmethod
    def _several(cls, classes: str) -> str:
        ends = re.fullmatch(r"\s*(\d+)\s*-\s*(\d+)\s*", classes)
        alone = ends is None and "," not in classes and classes.strip() not in ("all", "own")
        if alone or (ends is not None and ends[1] == ends[2]):
            raise ValueError("is one class only; a network tells two or more apart")
        return classes

    @model_validator(mode="after")
    def _check(self) -> "ZooModel":
        if sum(source is not None for source in (self.timm, self.torchvision, self.factory)) != 1:
            raise ValueError("name the architecture by exactly one of timm, torchvision and factory")
        if self.factory is not None and not re.fullmatch(r".+:[A-Za-z_]\w*", self.factory):
            raise ValueError("factory must read path/to/file.py:function or package.module:function")
        if self.weights == "pretrained" and self.factory is not None:
            raise ValueError("weights pretrained is for timm and torchvision; name a checkpoint instead")
        if self.classes == "own" and self.weights == "train":
            raise ValueError("classes own is for weights from elsewhere; training here needs classes of the data set")
        if self.classes == "own" and self.weights == "random":
            raise ValueError("classes own is for weights from elsewhere; random ones need classes of the data set")
        if self.classes != "own" and "num_classes" in self.kwargs:
            raise ValueError("kwargs.num_classes follows from classes; leave it out")
        return self

    def override(self, training: Training) -> Training:
        """`training` with this entry's own values; of its augmentation, too, those alone that are given."""
        values = training.model_dump()
        for name, own in self.training.items():
            values[name] = {**values[name], **own.model_dump(exclude_unset=True)} if isinstance(own, Section) else own
        return Training.model_validate(values)

    def place(self, name: str, field: str) -> str:
        """The dotted key at which the training value `field`, such as `epochs` or `augmentation.flip`, of this entry,
        called `name`, stands.
        """
        first, _, inner = field.partition(".")
        own = self.training.get(first)
        given = inner in own.model_fields_set if inner and isinstance(own, Section) else first in self.training
        return f"zoo.models.{name}.training.{field}" if given else f"zoo.training.{field}"


class Zoo(Section):
    """All entries by name, and the training defaults that an entry's own `training` overrides."""

    training: Training
    models: dict[Name, ZooModel] = Field(min_length=2, max_length=1000)
