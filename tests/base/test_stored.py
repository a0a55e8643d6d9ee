"""What may be stored: every name that params.yaml and data sets may have."""

import sys
from typing import Any

import pytest

from lib.base.errors import BrickyardError
from lib.base.stored import ClassNames, Text, parse
from lib.images import labels
from lib.params import section


def _parse(kind: Any, stored: Any) -> Any:
    return parse(kind, stored)


def _refused(kind: Any, stored: Any) -> bool:
    try:
        _parse(kind, stored)
    except BrickyardError:
        return True
    return False


def test_what_params_and_images_take_is_what_is_stored() -> None:
    odd = ["\u200c", "\u200d", "\xa0", "\u202f", "\xad", "\ue000", "\t", "\n", "\x85", "\x7f", "\u2028", "\u2029", "é"]
    for name in [*odd, "", "x" * 1000, "x" * 1001]:
        assert _refused(ClassNames, [name]) == bool(labels.fault(name)), repr(name)
        if name:
            assert _refused(Text, name) == bool(labels.fault(name)), repr(name)
    for character in map(chr, range(0, sys.maxunicode + 1, 7)):
        try:
            section.one_line(character)
        except ValueError:
            assert _refused(Text, character), repr(character)
        else:
            assert not labels.fault(character)


def test_what_is_no_line_is_told_in_one() -> None:
    with pytest.raises(BrickyardError, match=r"damaged: 0 = 'a.nb': should be one line without control characters"):
        _parse(ClassNames, ["a\nb"])
