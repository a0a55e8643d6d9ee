"""The whole of `params.yaml`: every section by itself, then what one says of another."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from . import relations
from .mistakes import shown, validated
from .parse import parse
from .sections import SECTIONS, Sections

OWN = "study"  # the section of a project that runs the stages besides scripts of its own, which check it


@dataclass(frozen=True)
class Checked:
    """A params.yaml that was checked.

    values: as they stand in the file.
    sections: those that are there and right.
    mistakes: one line each.
    """

    values: Mapping[str, Any]
    sections: Sections
    mistakes: tuple[str, ...]


@lru_cache(maxsize=4)
def read(content: bytes) -> Checked:
    """Everything that the file's `content` says and all that is wrong with it. Raises NotYAMLError."""
    parsed = parse(content)
    sections, mistakes = check(parsed.document)
    return Checked(parsed.document, sections, (*parsed.mistakes, *mistakes))


def check(document: Mapping[str, Any]) -> tuple[Sections, list[str]]:
    """The sections that are right, and one line for each mistake in any; a section may be missing."""
    mistakes = [
        f"{name if isinstance(name, str) else shown(name)}: unknown section; allowed: {', '.join(SECTIONS)}"
        for name in document
        if name not in SECTIONS and name != OWN
    ]
    found: dict[str, Any] = {}
    for name, kind in SECTIONS.items():
        if name in document:
            found[name], wrong = validated(document[name], name, kind)
            mistakes += wrong
    sections = Sections(**found)
    return sections, [*mistakes, *relations.mistakes(sections)]
