"""How classes may be called, and are named in params.yaml: `all`, or names, numbers and ranges between commas."""

import difflib
import json
import re
import unicodedata
from collections.abc import Sequence

from ..base.errors import BrickyardError
from ..params.section import one_line
from .picture import shown

_PART = re.compile(r'\s*("(?:[^"\\]|\\.)*"|[^,]*?)\s*,')
_RANGE = re.compile(r"([0-9]+)\s*-\s*([0-9]+)")
_LONGEST = 1000  # characters of a class's name, see lib.base.stored


def fault(name: str) -> str:
    """Why a class cannot be called so, in params.yaml or in what is stored; empty where it can."""
    try:
        one_line(name)
    except ValueError as error:
        return str(error)
    return "" if 0 < len(name) <= _LONGEST else f"should have 1 to {_LONGEST} characters"


def parse_classes(text: str, names: Sequence[str], who: str) -> list[int]:
    """Class indices in ascending order from `all`, or numbers, ranges and names separated by commas: `0-4,ship`.

    Numbers and ranges mean names where all names are numbers, else positions from 0. In double quotes stands a name,
    whatever it contains: `"bird, caged", "all", "3-5"`. Raises BrickyardError naming the key `who` where a part is none
    of these or there are no such classes.
    """
    if text.strip() == "all":
        return list(range(len(names)))
    if not text.strip():
        raise BrickyardError(f"{who} is empty; name at least one class, or all")
    known = {unicodedata.normalize("NFC", name): i for i, name in enumerate(names)}
    text = unicodedata.normalize("NFC", text)
    try:
        parts = _PART.findall(f"{text},")
        whole = text.strip()
        if len(parts) > 1 and whole in known:  # one name with commas in it
            if all(part in known for part in parts):
                raise BrickyardError(f"{whole!r} is one class and several; put names in double quotes")
            return [known[whole]]
        return sorted({i for part in parts for i in _chosen(part, known)})
    except BrickyardError as error:
        raise BrickyardError(f"{who} = {text!r}: {error}") from None


def _chosen(part: str, known: dict[str, int]) -> list[int]:
    """The indices that one part stands for."""
    quoted = _quoted(part)
    if quoted in known:
        return [known[quoted]]
    if part in known and _number_elsewhere(part, known):
        raise BrickyardError(f"{part!r} is a class's name and another's number; write the name in double quotes")
    if part in known:
        return [known[part]]
    if not part:
        raise BrickyardError("a name is missing beside a comma")
    if part.startswith('"'):
        raise BrickyardError(f"{part!r} is not a name in double quotes") if quoted is None else _unknown(quoted, known)
    found = _RANGE.fullmatch(part)
    if found is not None or re.fullmatch("[0-9]+", part):
        first, last = found.groups() if found else (part, part)
        return _numbered(part, first, last, known)
    raise _unknown(part, known)


def _quoted(part: str) -> str | None:
    """The name in double quotes, or None where that is not what it is."""
    try:
        name = json.loads(part, strict=False) if part.startswith('"') else None
    except ValueError:
        return None
    return None if name is None else unicodedata.normalize("NFC", name)


def _number_elsewhere(part: str, known: dict[str, int]) -> bool:
    """Whether a name is also the number of another class."""
    if not re.fullmatch("[0-9]{1,9}", part) or _numeric(known):
        return False
    return int(part) < len(known) and int(part) != known[part]


def _numeric(known: dict[str, int]) -> bool:
    return all(re.fullmatch("[0-9]{1,18}", name) for name in known)


def _numbered(part: str, first: str, last: str, known: dict[str, int]) -> list[int]:
    """The classes from number `first` to number `last`, both included."""
    numeric = _numeric(known)
    numbers = sorted((int(name) if numeric else i, i) for name, i in known.items())
    for end in (first, last):
        if len(end) > 18 or int(end) not in dict(numbers):
            are = f"there are {len(known)} classes, {numbers[0][0]}-{numbers[-1][0]}"
            raise BrickyardError(f"{are}, and none named {end}" if numeric else are)
    if int(first) > int(last):
        raise BrickyardError(f"the range {part!r} is empty; write {last}-{first}")
    found = [(number, i) for number, i in numbers if int(first) <= number <= int(last)]
    if len({number for number, _ in found}) < len(found):
        raise BrickyardError(f"several classes have the same number within {part}; write their names in full")
    return [i for _, i in found]


def _unknown(part: str, known: dict[str, int]) -> BrickyardError:
    if len(known) <= 10:
        return BrickyardError(f"{part!r} is neither a number, a range nor one of {', '.join(map(shown, known))}")
    folded = {name.casefold(): name for name in known}
    close = [folded[name] for name in difflib.get_close_matches(part.casefold(), folded, n=3)]
    hint = (
        f"did you mean {', '.join(map(shown, close))}?"
        if close
        else f"they begin with {', '.join(map(shown, list(known)[:3]))}"
    )
    return BrickyardError(f"{part!r} is neither a number, a range nor one of the {len(known)} classes; {hint}")
