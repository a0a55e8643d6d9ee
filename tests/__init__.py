from collections.abc import Iterable
from typing import Any

import pytest


def thinned(cases: Iterable[Any], every: int, first: int = 0) -> list[Any]:
    """For `parametrize`: the cases, each a value or a tuple of values; all but number `first`, `first` + `every` and so
    on are slow ones.
    """
    found = [case if isinstance(case, tuple) else (case,) for case in cases]
    return [pytest.param(*case, marks=[] if i % every == first else [pytest.mark.slow]) for i, case in enumerate(found)]
