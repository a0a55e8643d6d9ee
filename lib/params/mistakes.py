"""What pydantic finds wrong, as lines that name the key, the value and what is allowed."""

import re
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, TypeAdapter, ValidationError

from .parse import NAMES, path
from .some import Some

T = TypeVar("T")
_LONGEST = 80  # characters of a value


def validated(value: Any, key: str, kind: type[T]) -> tuple[T | None, list[str]]:
    """`value` of the dotted `key` as a `kind`, or None and a line for each mistake."""
    try:
        return TypeAdapter(kind).validate_python(value), []
    except ValidationError as error:
        found = error.errors(include_url=False)
        return None, list(dict.fromkeys(_line(key, kind, one) for one in found))


def shown(value: Any) -> str:
    """`value` as Python writes it, cut short where it is long."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an integer of thousands of digits, or a list in itself
        return f"a {type(value).__name__}"
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def _line(key: str, kind: Any, error: Any) -> str:
    location, given = error["loc"], error["type"]
    where = path(key, *(part for part in location if part != "[key]"))
    if location[-1:] == ("[key]",):
        return f"{where}: {NAMES}, 64 characters at most"
    if given in ("extra_forbidden", "invalid_key"):
        allowed = ", ".join(_fields(kind, location[:-1]))
        return f"{where}: unknown key" + (f"; allowed: {allowed}" if allowed else "")
    if given == "missing":
        return f"{where} is missing"
    if given in ("model_type", "dict_type"):
        inside = ", ".join(_fields(kind, location))
        return f"{where} = {shown(error['input'])}: should be a mapping" + (f" with {inside}" if inside else "")
    message = error["msg"].removeprefix("Value error, ").replace(" after validation", "")
    message = re.sub(r"^(Input|List|Dictionary|String|Value) should", "should", message)
    least = error.get("ctx", {}).get("ge")
    if given == "greater_than_equal" and 0 < least < 1e-3:
        message = f"should be greater than or equal to {least:g}"
    if given == "string_type":
        written = isinstance(error["input"], int | float)
        message = "should be text" + ("; write it in quotes" if written else "")
    if given == "string_pattern_mismatch":
        message = NAMES
    return f"{where} = {shown(error['input'])}: {message}"


def _fields(kind: Any, location: tuple[Any, ...]) -> list[str]:
    """The keys that the section at `location` inside `kind` takes, in alphabetical order."""
    for part in location:
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            field = kind.model_fields.get(str(part))
            some = next((found.of for found in field.metadata if isinstance(found, Some)), None) if field else None
            kind = some or (_given(field.annotation) if field else None)
        else:
            kind = _given((get_args(kind) or (None,))[-1])  # of a dict's or list's items
    return sorted(kind.model_fields) if isinstance(kind, type) and issubclass(kind, BaseModel) else []


def _given(kind: Any) -> Any:
    """The type of a value that may be null, where it is not; without what annotates it."""
    if hasattr(kind, "__metadata__"):
        kind = kind.__origin__
    kinds = get_args(kind)
    return _given(next(one for one in kinds if one is not type(None))) if type(None) in kinds else kind
