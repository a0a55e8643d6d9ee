from collections.abc import Iterable
from typing import Any

import pytest


def thinned(cases: Iterable[Any], every: int, first: int = 0) -> list[Any]:
    """For `parametrize`: of the cases, each a value or a tuple of values, those that are not `first`, `first` + `every`
    and so on are run with -m slow alone.
    """
    found = [case if isinstance(case, tuple) else (case,) for case in cases]
    return [pytest.param(*case, marks=[] if i % every == first else [pytest.mark.slow]) for i, case in enumerate(found)]
