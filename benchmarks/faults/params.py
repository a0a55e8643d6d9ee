"""Wrong values for every field of `params.yaml`, derived from the models of its sections."""

import math
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from lib.params.sections import SECTIONS
from lib.params.some import Some


@dataclass(frozen=True)
class Field:
    """A value that holds no section: dotted key, type, limits (ge, gt, le, lt) and whether it may be null."""

    key: str
    kind: Any
    limits: Mapping[str, float]
    nullable: bool


def fields(document: Mapping[str, Any]) -> list[Field]:
    """All fields; of what is there by name in `document`, those of the first item."""
    found = [field for name, kind in SECTIONS.items() for field in _inside(name, kind, (), document.get(name))]
    return [field for field in found if field.key.split(".")[0] in document]


def cases(document: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """(dotted key, wrong value): each is to be refused by a line that names the key."""
    return [(field.key, value) for field in fields(document) for value in _wrong(field)]


def put(document: Mapping[str, Any], key: str, value: Any) -> dict[str, Any]:
    """A copy of `document` with `value` at `key`; what is missing on the way is made."""
    made: Any = deepcopy(dict(document))
    *way, last = key.split(".")
    part = made
    for name in way:
        if not isinstance(part.get(name), dict):
            part[name] = {}
        part = part[name]
    part[last] = value
    return made


def names(line: str, key: str) -> bool:
    """Whether a message begins with the `key` or with an item of it."""
    rest = line.removeprefix(key)
    return rest != line and rest[:1] in (".", " ", ":", "")


def _inside(key: str, kind: Any, extra: tuple[Any, ...], given: Any) -> Iterator[Field]:
    kind, metadata, nullable = _bare(kind)
    metadata = (*extra, *metadata)
    some = next((one.of for one in metadata if isinstance(one, Some)), None)
    if (isinstance(kind, type) and issubclass(kind, BaseModel)) or some is not None:
        section: type[BaseModel] = some or kind
        for name, field in section.model_fields.items():
            inner = given.get(name) if isinstance(given, dict) else None
            yield from _inside(f"{key}.{name}", field.annotation, tuple(field.metadata), inner)
    elif get_origin(kind) is dict and isinstance(given, dict) and _is_section(get_args(kind)[1]):
        yield Field(key, kind, {}, nullable)
        name = next(iter(given))
        yield from _inside(f"{key}.{name}", get_args(kind)[1], (), given[name])
    else:
        limits = {
            limit: getattr(one, limit) for one in metadata for limit in ("ge", "gt", "le", "lt") if hasattr(one, limit)
        }
        yield Field(key, kind, limits, nullable)


def _bare(kind: Any) -> tuple[Any, tuple[Any, ...], bool]:
    """A type without what annotates it, that, and whether it may be null."""
    if get_origin(kind) is Annotated:
        inner, metadata, nullable = _bare(get_args(kind)[0])
        own = [part for one in kind.__metadata__ for part in (one.metadata if isinstance(one, FieldInfo) else [one])]
        return inner, (*metadata, *own), nullable
    if get_origin(kind) in (Union, UnionType):
        inner, metadata, _ = _bare(next(one for one in get_args(kind) if one is not type(None)))
        return inner, metadata, True
    return kind, (), False


def _is_section(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _wrong(field: Field) -> Iterator[Any]:
    """Values that the field cannot mean."""
    if not field.nullable:
        yield None
    origin = get_origin(field.kind) or field.kind
    if origin in (int, float):
        yield from ("three", "", True, [], {}, [1], math.nan, math.inf, -math.inf, 1e308, -(10**400))
        for limit, value in field.limits.items():
            step = 1 if origin is int else max(abs(value) * 1e-3, 1e-300)
            yield {"ge": value - step, "gt": value, "le": value + step, "lt": value}[limit]
        if origin is int:
            yield from (1.5, 2.0, 10**30)
    elif origin is bool:
        yield from ("yes", 1, 0.0, [], {})
    elif origin is Literal:
        yield from ("nonsense", "", 1, math.nan, True, [], {})
    elif origin is str:
        yield from ("", "a\nb", "a\0b", "\x1b[31m", "\ud800", "x" * 200_000, 5, math.inf, False, ["a"], {"a": "b"})
    elif origin is list:
        yield from (5, "a", {"a": 1}, [None], [math.nan], [[1]], ["a\0"], [{}])
    else:
        yield from (5, "a", ["a"], {"a b": math.nan}, {"-a": 1}, {"1": {}})
