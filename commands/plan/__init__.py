"""What a run will cost, before anything runs.

`needs` is for programs; python -m commands.plan for people.
"""

from collections.abc import Iterable
from functools import cache
from time import thread_time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from commands.plan.estimates import Estimate

STARTED = 3.0  # seconds until a stage has imported what it needs, where this process has done so before


def needs(stages: Iterable[str]) -> "dict[str, Estimate]":
    """What stages that will run, given as DVC calls them, need: seconds, bytes in memory and on disk, None where nobody
    knows.

    Takes some seconds. Raises BrickyardError where params.yaml, or a network that it names, is not right.
    """
    started = imported()
    from commands.plan.estimates import estimates

    return estimates(stages, started)


@cache
def imported() -> float:
    """Imports what stages import, and says how many seconds of the processor that takes."""
    began = thread_time()
    import timm.data  # noqa: F401

    from commands.plan import estimates  # noqa: F401

    spent = thread_time() - began
    return spent if spent > STARTED / 3 else STARTED
