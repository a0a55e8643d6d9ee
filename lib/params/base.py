"""Reading `params.yaml`: one frozen model a section; a bad value is one line that names its key."""

from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from lib.errors import BrickyardError

SECTIONS = (
    "run dataset zoo activations similarity partition assembly finetune contributions components lego report"
).split()

Fraction = Annotated[float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    """A section of `params.yaml` or a part of one: values cannot change, unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


S = TypeVar("S", bound=Section)


def read(key: str, model: type[S], path: Path = Path("params.yaml")) -> S:
    """Returns the part of `path` at the dotted `key`, e.g. `partition` or `zoo.models.resnet`, as a `model`.

    Raises BrickyardError naming the file, the key, the value and what is allowed.
    """
    node = _document(path)
    for part in key.split("."):
        if not isinstance(node, dict) or part not in node:
            raise BrickyardError(f"{path}: {key} is missing")
        node = node[part]
    try:
        return model.model_validate(node)
    except ValidationError as error:
        raise BrickyardError("; ".join(f"{path}: {_line(key, model, e)}" for e in error.errors())) from None


def _document(path: Path) -> dict[str, Any]:
    try:
        document = YAML(typ="safe", pure=True).load(path)  # YAML 1.2, as DVC reads it
    except FileNotFoundError:
        raise BrickyardError(f"{path} not found: run from the root of the repository") from None
    except YAMLError as error:
        raise BrickyardError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    for section in document:
        if section not in SECTIONS:
            raise BrickyardError(f"{path}: {section}: unknown section; allowed: {', '.join(SECTIONS)}")
    return document


def _line(key: str, model: type[BaseModel], error: Any) -> str:
    where = ".".join([key, *(str(part) for part in error["loc"])])
    if error["type"] == "extra_forbidden":
        allowed = ", ".join(_fields(model, error["loc"][:-1]))
        return f"{where}: unknown key" + (f"; allowed: {allowed}" if allowed else "")
    if error["type"] == "missing":
        return f"{where} is missing"
    message = error["msg"].removeprefix("Value error, ").replace("Input should", "should")
    return f"{where} = {error['input']!r}: {message}"


def _fields(model: type[BaseModel], location: tuple[Any, ...]) -> list[str]:
    for part in location:
        field = model.model_fields.get(str(part))
        if field is None or not (isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)):
            return []
        model = field.annotation
    return sorted(model.model_fields)
