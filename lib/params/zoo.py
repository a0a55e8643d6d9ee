"""`zoo`: one entry a trained network."""

from typing import Any

from pydantic import Field, ValidationError, model_validator

from lib.params.base import Count, Name, Section, read
from lib.params.training import Training

_ANY = Training(epochs=1, batch_size=2, learning_rate=1, weight_decay=0, warmup=0, label_smoothing=0)


class ZooModel(Section):
    """An architecture (`timm`, `torchvision` or `factory`), the classes it knows, and where its weights come from.

    `weights`: `train` (here, on the data set), `pretrained` (timm's or
    torchvision's own) or the path of a local checkpoint.
    `classes`: class numbers, ranges such as `0-4`, or names, separated by commas; `all`; for weights from
    elsewhere with labels of their own, `own`. `nodes`: module paths that are to be the nodes, for a network that
    cannot be cut without.
    """

    timm: str | None = None
    torchvision: str | None = None
    factory: str | None = None
    kwargs: dict[str, Any] = Field(default_factory=dict)
    weights: str
    classes: str = "all"
    input_size: Count | None = None
    nodes: list[str] = Field(default_factory=list)
    licence: str = "unknown"
    training: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check(self) -> "ZooModel":
        if sum(source is not None for source in (self.timm, self.torchvision, self.factory)) != 1:
            raise ValueError("name the architecture by exactly one of timm, torchvision and factory")
        if self.factory is not None and ":" not in self.factory:
            raise ValueError("factory must read path/to/file.py:function or package.module:function")
        if self.weights == "pretrained" and self.factory is not None:
            raise ValueError("weights pretrained is for timm and torchvision; name a checkpoint instead")
        unknown = set(self.training) - set(Training.model_fields)
        if unknown:
            raise ValueError(f"training.{min(unknown)}: unknown key; allowed: {', '.join(Training.model_fields)}")
        try:
            self.override(_ANY)
        except ValidationError as error:
            wrong = error.errors()[0]
            where = ".".join(str(part) for part in wrong["loc"])
            raise ValueError(f"training.{where}: {wrong['msg'].replace('Input should', 'should')}") from None
        if self.classes == "own" and self.weights == "train":
            raise ValueError("classes own is for weights from elsewhere; training here needs classes of the data set")
        return self

    def override(self, training: Training) -> Training:
        """`training` with this entry's own values."""
        return Training.model_validate({**training.model_dump(), **self.training})


class Zoo(Section):
    """All entries by name, and the training defaults that an entry's own `training` overrides."""

    training: Training
    models: dict[Name, ZooModel] = Field(min_length=2)


def entry(name: str) -> dict[str, ZooModel]:
    """The entry of one network in params.yaml, by its name: what may run when that network is opened, which changes no
    bits, so that stages that open it do not depend on this.
    """
    return {name: read(f"zoo.models.{name}", ZooModel)}


def entries() -> dict[str, ZooModel]:
    """Those of all networks, likewise."""
    return read("zoo", Zoo).models
