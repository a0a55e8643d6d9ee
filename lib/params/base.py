"""Reading `params.yaml`: one frozen model a section; a bad value is one line that names its key."""

from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from lib.errors import BrickyardError

SECTIONS = (
    *("run", "dataset", "zoo"),
    *("activations", "similarity", "partition", "assembly", "finetune"),
    *("contributions", "components", "lego", "report"),
)

Fraction = Annotated[float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")]  # of an item; DVC takes neither dots nor @


class Section(BaseModel):
    """A section of `params.yaml` or a part of one: values cannot change, unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


T = TypeVar("T")


def read(key: str, kind: type[T], within: type[Section] | None = None, path: Path = Path("params.yaml")) -> T:
    """Returns the part of `path` at the dotted `key`, e.g. `partition` or `zoo.models.resnet`, as a `kind`.

    `within`: the model of the whole section, which is checked first, so that a misspelt neighbour is noticed. Raises
    BrickyardError naming the file, the key, the value and what is allowed.
    """
    document = _document(path)
    if within is not None:
        section = key.split(".")[0]
        _validate(_at(document, section, path), section, within, path)
    return _validate(_at(document, key, path), key, kind, path)


def _at(node: Any, key: str, path: Path) -> Any:
    for part in key.split("."):
        if not isinstance(node, dict) or part not in node:
            raise BrickyardError(f"{path}: {key} is missing")
        node = node[part]
    return node


def _validate(node: Any, key: str, kind: type[T], path: Path) -> T:
    try:
        return TypeAdapter(kind).validate_python(node)
    except ValidationError as error:
        raise BrickyardError("; ".join(f"{path}: {_line(key, kind, e)}" for e in error.errors())) from None


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


def _line(key: str, kind: Any, error: Any) -> str:
    where = ".".join([key, *(str(part) for part in error["loc"])])
    if error["type"] == "extra_forbidden":
        allowed = ", ".join(_fields(kind, error["loc"][:-1]))
        return f"{where}: unknown key" + (f"; allowed: {allowed}" if allowed else "")
    if error["type"] == "missing":
        return f"{where} is missing"
    if error["type"] == "model_type":
        return f"{where} = {error['input']!r}: should be a mapping with {', '.join(_fields(kind, error['loc']))}"
    if error["loc"][-1:] == ("[key]",):
        return f"{where.removesuffix('.[key]')}: a name has letters, digits, _ and - only"
    message = error["msg"].removeprefix("Value error, ").replace("Input should", "should")
    message = message.replace("List should", "should").replace(" after validation", "")
    return f"{where} = {error['input']!r}: {message}"


def _fields(kind: Any, location: tuple[Any, ...]) -> list[str]:
    """The keys that the section at `location` inside `kind` takes, in alphabetical order."""
    for part in location:
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            kind = _given(kind.model_fields[str(part)].annotation)
        else:
            kind = _given(get_args(kind)[-1])  # of a dict's or list's items
    return sorted(kind.model_fields)


def _given(kind: Any) -> Any:
    """The type of a value that may be null, where it is not."""
    kinds = get_args(kind)
    return next(one for one in kinds if one is not type(None)) if type(None) in kinds else kind
