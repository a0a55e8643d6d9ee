"""What JSON files may hold: types with bounds, and reading a dataclass from JSON that anyone may have written."""

import json
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError

from .errors import BrickyardError

CHECKED = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)  # of a dataclass that is stored
FORMATS = {"zoo": 3, "reassembled": 4, "component": 3, "assembled": 3}  # another number wherever a form changes
MANY = 100_000  # classes, channels of a layer
LARGEST = 4096  # side of an image


def _unique(values: Sequence[str]) -> Sequence[str]:
    if len(set(values)) != len(values):
        raise ValueError("a name appears twice")
    return values


def one_line(text: str) -> str:
    """`text`; raises ValueError where `lib.params.section.one_line` does: what params.yaml may name can be stored."""
    if any(unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in text):
        raise ValueError("should be one line without control characters")
    return text


def _ascending(values: tuple[int, ...]) -> tuple[int, ...]:
    if any(b <= a for a, b in zip(values, values[1:], strict=False)):
        raise ValueError("should ascend")
    return values


Text = Annotated[str, Field(max_length=1000), AfterValidator(one_line)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$", max_length=200)]  # of a network or task
ClassName = Annotated[str, Field(min_length=1, max_length=1000), AfterValidator(one_line)]
ClassNames = Annotated[tuple[ClassName, ...], Field(max_length=MANY), AfterValidator(_unique)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Seal = Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")]  # empty before the weights are saved
Size = Annotated[int, Field(ge=1, le=MANY)]
Pixels = Annotated[int, Field(ge=1, le=LARGEST)]
Count = Annotated[int, Field(ge=0, le=2**60)]
Indices = Annotated[tuple[Count, ...], Field(min_length=1, max_length=MANY), AfterValidator(_ascending)]
Share = Annotated[float, Field(ge=0, le=100)]  # in percent

T = TypeVar("T")


def parse(kind: type[T], stored: Any) -> T:
    """A `kind` from what JSON holds; lists become tuples. Raises BrickyardError naming the keys that are not right."""
    try:
        return TypeAdapter(kind).validate_json(json.dumps(stored))
    except ValidationError as error:
        lines = [_line(one) for one in error.errors(include_url=False)[:3]]
        raise BrickyardError(f"damaged: {'; '.join(lines)}; dvc repro") from None
    except (RecursionError, ValueError, TypeError) as error:
        raise BrickyardError(f"damaged: {type(error).__name__}: {error}; dvc repro") from None


def stamped(kind: str, stored: Mapping[str, Any]) -> dict[str, Any]:
    """What describes a network, for JSON: its kind, the format of this code, then what is stored."""
    return {"kind": kind, "format": FORMATS[kind], **stored}


def kind_of(stored: Any) -> Any:
    """The kind that an object of `stamped` names. Raises BrickyardError where it is of another format."""
    found = stored if isinstance(stored, dict) else {}
    kind, given = found.get("kind"), found.get("format")
    known = {FORMATS[kind]} if isinstance(kind, str) and kind in FORMATS else set(FORMATS.values())
    if given not in [*known]:
        right = " or ".join(map(str, sorted(known)))
        raise BrickyardError(
            f"format = {repr(given)[:80]}: this code reads format {right} alone; dvc repro makes it anew"
        )
    return kind


def parse_kind(cls: type[T], kind: str, stored: Any) -> T:
    """The inverse of `stamped`, a `cls`. Raises BrickyardError as `kind_of` and `parse`, and for another kind."""
    if (given := kind_of(stored)) != kind:
        raise BrickyardError(f"kind = {repr(given)[:80]}: should be {kind!r}")
    return parse(cls, {key: value for key, value in stored.items() if key not in ("kind", "format")})


def _line(error: Any) -> str:
    where = ".".join(str(part) for part in error["loc"]) or "it"
    if error["type"] == "missing":
        return f"{where} is missing"
    if error["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        return f"{where}: unknown key"
    if error["loc"][-1:] == ("[key]",):
        return f"{where.removesuffix('.[key]')!r}: a name has letters, digits, _ and - only"
    message = error["msg"].removeprefix("Value error, ").replace("Input should", "should")
    return f"{where} = {repr(error['input'])[:80]}: {message}"
